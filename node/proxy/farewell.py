"""Before a copy stops, every live node says that it sends nothing there any more, and ends what it has on its way.

The node of the copy asks all others over the mesh. Each answers twice: when it knows of the stop and its route table
has no such target any more, and when none of its own requests to it is left. A node that does not answer in time is on
its own: a dead one must not keep a copy alive.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import structlog
import trio

from node.mesh.driver import Mesh
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from node.proxy.letting_go import DRAINED, UNROUTED, UNROUTED_S, Farewell, decode_farewell, encode_farewell
from orca.errors import OrcaError
from orca.model.ids import AllocationId, LogIndex, NodeId

_log = structlog.get_logger("orca.proxy")


class Intent(Protocol):
    """The log as this node has it."""

    @property
    def applied_index(self) -> LogIndex:
        """The last entry that its state contains."""
        ...

    async def wait_applied(self, index: LogIndex) -> None:
        """Return when the state holds entry `index`."""
        ...


class Farewells:
    """Both ends.

    `unrouted` waits until this node's table has no target of a copy, `drained` (given seconds) until none of its
    requests to it is left; `others` are the nodes that are believed alive, `intent` is what this node knows of the log.
    """

    def __init__(
        self,
        mesh: Mesh,
        unrouted: Callable[[AllocationId], Awaitable[None]],
        drained: Callable[[AllocationId, float], Awaitable[int]],
        *,
        others: Callable[[], Iterable[NodeId]],
        intent: Intent,
    ) -> None:
        self._mesh = mesh
        self._unrouted = unrouted
        self._drained = drained
        self._others = others
        self._intent = intent

    async def ask_all(self, allocation: AllocationId, timeout_s: float) -> None:
        """Return when every other live node has let go of `allocation`, or has had its time."""
        farewell = Farewell(allocation=allocation, timeout_s=timeout_s, after=self._intent.applied_index)
        async with trio.open_nursery() as nursery:
            for node in self._others():
                nursery.start_soon(self._ask, node, farewell)

    async def _ask(self, node: NodeId, farewell: Farewell) -> None:
        reason = "it did not answer in time"
        with trio.move_on_after(UNROUTED_S) as scope:
            try:
                async with self._mesh.connect(node, Purpose.FAREWELL) as frames:
                    await frames.send((encode_farewell(farewell),))
                    await frames.receive()
                    scope.deadline += farewell.more_s
                    await frames.receive()
                    return
            except OrcaError as error:
                reason = error.message
        _log.warning("a node did not let go of a copy that stops", peer=node, copy=farewell.allocation, reason=reason)

    async def serve(self, peer: NodeId, frames: FrameStream) -> None:
        """Answer one peer. Raises PeerProtocolError for what is no question."""
        payload = await frames.receive()
        farewell = decode_farewell(peer, payload)
        with trio.move_on_after(UNROUTED_S) as scope:
            await self._intent.wait_applied(farewell.after)
            await self._unrouted(farewell.allocation)
        if scope.cancelled_caught:
            return  # The peer has given up as well.
        await frames.send((UNROUTED,))
        await self._drained(farewell.allocation, farewell.allowed_s)
        await frames.send((DRAINED,))
