"""Notes figures every second, keeps them every minute, and tells what goes too far; on trio."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import structlog
import trio

from node.figures.minutes import Minute, Recorder
from node.figures.store import SeriesStore
from node.figures.subjects import NODE, copy_subject, read_subject, service_subject
from node.figures.thresholds import Exceeded, Watch
from node.figures.traffic import STEP_S, TrafficFigures
from node.figures.words import sentence
from node.proxy.latency import ServiceTraffic
from node.store.events import EventLog
from orca.errors import OrcaError
from orca.model.allocation import Allocation
from orca.model.event import EventKind, Severity
from orca.model.ids import AllocationId, NodeId, ServiceId
from orca.model.units import Instant
from orca.model.view import StatsView
from orca.sources import Clock

ASK_S: Final = 5.0
"""To ask an engine about one container takes a few milliseconds of it and of us: every second would be more than all
else that an idle node does."""
ASKS_A_S: Final = 10
DISKS_S: Final = 10
"""Disks and certificates change slowly, and to ask may block."""
PEER_S: Final = 60.0
PEERS_KEPT: Final = 10
_log = structlog.get_logger("orca.figures")


class Copies(Protocol):
    """What this node runs."""

    def own(self) -> Sequence[Allocation]:
        """Its copies."""
        ...

    async def measure(self, copies: Sequence[Allocation]) -> tuple[StatsView, ...]:
        """What these use now."""
        ...


class Proxy(Protocol):
    """What the node's proxy counts."""

    def services(self) -> Mapping[ServiceId, ServiceTraffic]:
        """Answers of each service since the start."""
        ...

    def queues(self) -> Mapping[ServiceId, float]:
        """How much of each service's room for waiting requests is taken, where any is."""
        ...


class NodeSource(Protocol):
    """Figures of the computer."""

    def quick(self) -> Mapping[str, float]:
        """Those that cost nothing."""
        ...

    def slow(self) -> Mapping[str, float]:
        """Those of disks and certificates. Blocks."""
        ...


class Figures:
    """The figures of one node. `peer_offset_s` is how far another node's clock is ahead; None when nobody says."""

    def __init__(  # noqa: PLR0913 - where figures come from, and where they go
        self,
        name: str,
        clock: Clock,
        store: SeriesStore,
        events: EventLog,
        source: NodeSource,
        copies: Copies,
        proxy: Proxy,
        *,
        peer_offset_s: Callable[[], Awaitable[tuple[NodeId, float] | None]],
    ) -> None:
        self._name = name
        self._clock = clock
        self._store = store
        self._events = events
        self._source = source
        self._copies = copies
        self._proxy = proxy
        self._peer_offset_s = peer_offset_s
        self.recorder = Recorder()
        self._watch = Watch()
        self._traffic = TrafficFigures()
        self._shares: dict[ServiceId, tuple[float, float]] = {}
        self._slow: Mapping[str, float] = {}
        self._used: dict[AllocationId, StatsView] = {}
        self._offsets: dict[NodeId, float] = {}
        self._has_room = True

    async def run(self) -> None:
        """Until cancelled."""
        cases = await trio.to_thread.run_sync(self._store.load_open)
        self._watch.restore(cases, self._clock.now())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_copies)
            nursery.start_soon(self._ask_disks)
            nursery.start_soon(self._ask_peers)
            await self._note(nursery)

    async def _note(self, nursery: trio.Nursery) -> None:
        turn = 0
        while True:
            await trio.sleep(1.0 - self._clock.wall() / 1000 % 1.0)
            if turn % STEP_S == 0:
                self._shares = self._traffic.shares(self._proxy.services())
            turn += 1
            over, has_changed = self.tick()
            if has_changed:
                nursery.start_soon(self._keep_open)
            if over is not None:
                nursery.start_soon(self._keep, over)

    def tick(self) -> tuple[Minute | None, bool]:
        """Note this second; the minute that is over by it, and whether anything was told."""
        values, watched = self._values()
        over = self.recorder.record(self._clock.wall() // 1000, values)
        return over, self._tell(watched, self._clock.now())

    def _values(self) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        own = {**self._source.quick(), **self._slow}
        if self._offsets:
            own["clock_offset_s"] = abs(_middle(self._offsets.values()))
        values = {f"{figure} {NODE}": value for figure, value in own.items()}
        watched = {figure: {NODE: value} for figure, value in own.items()}
        memory = watched["memory_share"] = {}
        for one in self._used.values():
            if one.problem:
                continue
            subject = copy_subject(one.service, one.slot, one.allocation)
            values[f"cpu_milli {subject}"] = one.cpu_milli
            values[f"memory_bytes {subject}"] = one.memory_bytes
            if one.memory_bytes_max:
                memory[subject] = one.memory_bytes / one.memory_bytes_max
        for service, rate in self._traffic.rates(self._proxy.services()).items():
            values[f"answers_per_s {service_subject(service)}"] = rate
        errors, latency = watched.setdefault("error_share", {}), watched.setdefault("latency_p95_s", {})
        for service, (share, bound_s) in self._shares.items():
            subject = service_subject(service)
            errors[subject] = values[f"error_share {subject}"] = share
            latency[subject] = values[f"latency_p95_s {subject}"] = bound_s
        queues = watched["queue_share"] = {}
        for service, share in self._proxy.queues().items():
            queues[service_subject(service)] = share
        return values, watched

    def _tell(self, watched: Mapping[str, Mapping[str, float]], now: Instant) -> bool:
        changes = self._watch.step(watched, now)
        for change in changes:
            subject = read_subject(change.subject)
            is_worse = isinstance(change, Exceeded)
            severity = change.severity if isinstance(change, Exceeded) else Severity.INFO
            message = sentence(change, subject, self._name)
            self._events.append(
                EventKind.FIGURE_EXCEEDED if is_worse else EventKind.FIGURE_SETTLED,
                message,
                at_ms=self._clock.wall(),
                severity=severity,
                service=subject.service,
                allocation=subject.allocation,
                figure=change.figure,
            )
            (_log.warning if is_worse else _log.info)(message)
        return bool(changes)

    async def _keep_open(self) -> None:
        try:
            await trio.to_thread.run_sync(self._store.keep_open, self._watch.open, abandon_on_cancel=True)
        except OrcaError as error:
            _log.info("what is open could not be kept", reason=error.message)

    async def _keep(self, minute: Minute) -> None:
        try:
            has_room = await trio.to_thread.run_sync(self._store.write, minute, abandon_on_cancel=True)
        except OrcaError as error:
            _log.info("figures could not be kept", reason=error.message)
            return
        if has_room is not self._has_room:
            self._has_room = has_room
            _log.warning("the store has room for figures again" if has_room else "the store has no room for figures")

    async def _ask_copies(self) -> None:
        while True:
            began = trio.current_time()
            copies = self._copies.own()
            known = {one.id for one in copies}
            self._used = {name: one for name, one in self._used.items() if name in known}
            for first in range(0, len(copies), ASKS_A_S):
                for one in await self._copies.measure(copies[first : first + ASKS_A_S]):
                    self._used[one.allocation] = one
                if first + ASKS_A_S < len(copies):
                    await trio.sleep(1)
            await trio.sleep(max(1.0, ASK_S - (trio.current_time() - began)))

    async def _ask_disks(self) -> None:
        while True:
            try:
                self._slow = await trio.to_thread.run_sync(self._source.slow, abandon_on_cancel=True)
            except (OrcaError, OSError) as error:
                self._slow = {}
                _log.info("the disk could not be asked", reason=str(error))
            await trio.sleep(DISKS_S)

    async def _ask_peers(self) -> None:
        while True:
            await trio.sleep(PEER_S)
            found = await self._peer_offset_s()
            if found is not None:
                self._offsets.pop(found[0], None)
                self._offsets[found[0]] = found[1]
                while len(self._offsets) > PEERS_KEPT:
                    del self._offsets[next(iter(self._offsets))]


def _middle(values: Iterable[float]) -> float:
    """The median; `statistics` would be a megabyte of modules for it."""
    known = sorted(values)
    half = len(known) // 2
    return known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2
