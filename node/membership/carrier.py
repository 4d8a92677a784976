"""Carries frames of facts and pulses to other nodes over the mesh, one way, and loses what cannot go at once.

What is lost is found missing by the next summary, or followed by the next pulse: so each peer has one connection and a
short queue, whose oldest frame makes room, and who cannot be reached is tried again with growing pauses.
"""

import math
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import structlog
import trio

from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from orca.errors import OrcaError
from orca.model.ids import NodeId
from orca.sources import Rng

_log = structlog.get_logger("orca.gossip")
FRAMES_MAX: Final = 64
"""That wait for one peer; a frame has a packet's size, seldom up to a MiB."""
SEND_TIMEOUT_S: Final = 5.0
RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 4.0
"""Below the time after which a silent node is taken for failed."""

Connect = Callable[[NodeId, Purpose], AbstractAsyncContextManager[FrameStream]]


class FactCarrier:
    """`connect` is the mesh's. Until `run` has started, and after it has ended, nothing is carried."""

    def __init__(self, connect: Connect, rng: Rng) -> None:
        self._connect = connect
        self._rng = rng
        self._waiting: dict[NodeId, _Waiting] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def send(self, node: NodeId, frame: bytes) -> None:
        """Put it on its way to `node`; returns at once."""
        waiting = self._waiting.get(node)
        if waiting is None:
            if self._nursery is None:
                return
            waiting = self._waiting[node] = _Waiting()
            self._nursery.start_soon(self._carry, node, waiting)
        waiting.put(frame)

    async def _carry(self, node: NodeId, waiting: "_Waiting") -> None:
        failures = 0
        while True:
            await waiting.wait()
            try:
                async with self._connect(node, Purpose.FACTS) as frames:
                    while True:
                        await waiting.wait()
                        with trio.fail_after(SEND_TIMEOUT_S):
                            await frames.send(waiting.take())
                        failures = 0
            except (OrcaError, OSError, trio.TooSlowError) as error:
                _log.debug("facts cannot be brought to a peer", peer=node, reason=str(error))
            failures += 1
            waiting.take()  # stale when the peer is back
            longest = min(RETRY_MAX_S, RETRY_FIRST_S * math.pow(2, min(failures, 10)))
            await trio.sleep(self._rng.uniform(longest / 2, longest))


class _Waiting:
    """Frames for one peer."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque(maxlen=FRAMES_MAX)
        self._wake = trio.Event()

    def put(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._wake.set()

    def take(self) -> list[bytes]:
        frames = list(self._frames)
        self._frames.clear()
        return frames

    async def wait(self) -> None:
        """Return when there is something."""
        while not self._frames:
            self._wake = trio.Event()
            await self._wake.wait()
