"""Raw bytes both ways after a 101, until both sides ended or nothing moves any more."""

import trio

from node.proxy.faults import WireError
from node.proxy.wires import Wire


async def run_tunnel(client: Wire, upstream: Wire, idle_timeout_s: float) -> bool:
    """Copy until both directions ended; True when they ended cleanly.

    One side may end its own direction and go on listening. A break on one side or
    `idle_timeout_s` without a byte ends both.
    """
    is_clean = True
    with trio.CancelScope(deadline=trio.current_time() + idle_timeout_s) as idle:

        async def copy(source: Wire, sink: Wire) -> None:
            nonlocal is_clean
            try:
                while True:
                    if source.buffer:
                        payload = bytes(source.buffer)
                        source.buffer.clear()
                        await sink.send(payload)
                        idle.deadline = trio.current_time() + idle_timeout_s
                    if not await source.fill(float("inf")):
                        sink.end_sending()
                        return
                    idle.deadline = trio.current_time() + idle_timeout_s
            except WireError:
                is_clean = False
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(copy, client, upstream)
            nursery.start_soon(copy, upstream, client)
    return is_clean and not idle.cancelled_caught
