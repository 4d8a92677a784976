"""Before a copy stops, every live node says that it sends nothing there any more, and ends what it has on its way.

The node of the copy asks all others over the mesh. Each answers twice: when its route table has no such target any
more, and when none of its own requests to it is left. A node that does not answer in time is on its own: a dead one
must not keep a copy alive.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec
import structlog
import trio

from node.mesh.driver import Mesh
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from orca.errors import OrcaError, PeerProtocolError
from orca.model.ids import AllocationId, NodeId

_log = structlog.get_logger("orca.proxy")
UNROUTED_S: Final = 3.0
"""How long a node has to learn that the copy is to stop; intent reaches it in milliseconds."""
GRACE_S: Final = 2.0
TIMEOUT_S_MAX: Final = 3600.0
_UNROUTED: Final = b"\x01"
_DRAINED: Final = b"\x02"


class _Farewell(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: to let go of a copy, and to end what is on its way within `timeout_s`."""

    allocation: AllocationId
    timeout_s: float


class Farewells:
    """Both ends.

    `unrouted` waits until this node's table has no target of a copy, `drained` (given seconds) until none of its
    requests to it is left; `others` are the nodes that are believed alive.
    """

    def __init__(
        self,
        mesh: Mesh,
        unrouted: Callable[[AllocationId], Awaitable[None]],
        drained: Callable[[AllocationId, float], Awaitable[int]],
        others: Callable[[], Iterable[NodeId]],
    ) -> None:
        self._mesh = mesh
        self._unrouted = unrouted
        self._drained = drained
        self._others = others

    async def ask_all(self, allocation: AllocationId, timeout_s: float) -> None:
        """Return when every other live node has let go of `allocation`, or has had its time."""
        async with trio.open_nursery() as nursery:
            for node in self._others():
                nursery.start_soon(self._ask, node, _Farewell(allocation=allocation, timeout_s=timeout_s))

    async def _ask(self, node: NodeId, farewell: _Farewell) -> None:
        reason = "it did not answer in time"
        with trio.move_on_after(UNROUTED_S) as scope:
            try:
                async with self._mesh.connect(node, Purpose.FAREWELL) as frames:
                    await frames.send((msgspec.msgpack.encode(farewell),))
                    await frames.receive()
                    scope.deadline += farewell.timeout_s + GRACE_S
                    await frames.receive()
                    return
            except OrcaError as error:
                reason = error.message
        _log.warning("a node did not let go of a copy that stops", peer=node, copy=farewell.allocation, reason=reason)

    async def serve(self, peer: NodeId, frames: FrameStream) -> None:
        """Answer one peer. Raises PeerProtocolError for what is no question."""
        payload = await frames.receive()
        try:
            farewell = msgspec.msgpack.decode(payload, type=_Farewell)
        except msgspec.DecodeError as error:
            raise PeerProtocolError(f"{peer} asks to let go of something that cannot be read: {error}") from error
        with trio.move_on_after(UNROUTED_S) as scope:
            await self._unrouted(farewell.allocation)
        if scope.cancelled_caught:
            return  # The peer has given up as well.
        await frames.send((_UNROUTED,))
        await self._drained(farewell.allocation, min(max(0.0, farewell.timeout_s), TIMEOUT_S_MAX))
        await frames.send((_DRAINED,))
