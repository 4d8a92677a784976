"""The history of a node: a ring of events in the store.

`append` puts an event into a bounded buffer and returns; `run` writes what has gathered
there in batches. An event gets its sequence number in the transaction that writes it,
so numbers have no gaps, never come twice, and whoever sees an event sees one that is on disk.
When the store takes nothing, events wait in the buffer; when that is full the oldest
go, and an event that says how many went follows as soon as the store takes events again.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import structlog
import trio

from node.store.environment import Environment
from node.store.views import Database, ReadView, WriteView
from orca.errors import InvalidRequestError, OrcaError
from orca.model.event import CLUSTER_KINDS, EventKind, NodeEvent, Severity
from orca.model.ids import AllocationId, LogIndex, NodeId, ServiceId, SpecRevision
from orca.model.units import WallMs

KEEP_DEFAULT: Final = 50_000
BUFFER_MAX: Final = 10_000
BATCH_MAX: Final = 500
READ_MAX: Final = 1_000
MESSAGE_CHARACTERS_MAX: Final = 4_000
SEQUENCE_MAX: Final = 2**64 - 1
RETRY_S: Final = 5.0
LAST_FLUSH_S: Final = 5.0
_RING: Final = (Database.EVENTS, Database.EVENT_INDEX)

_log = structlog.get_logger(__name__)
_decode: Final = msgspec.msgpack.Decoder(NodeEvent).decode


class _Rows(NamedTuple):
    """Which rows a read looks at: of a subject (`prefix`) or of all, from one end or from the other."""

    prefix: bytes
    start: bytes
    stop: bytes
    is_newest: bool


class EventLog:
    """The events of one node. Its methods are for the thread of the trio loop.

    It keeps the newest `keep` events, fewer when they would take more than a quarter of the
    store.
    """

    def __init__(self, environment: Environment, node: NodeId, *, keep: int = KEEP_DEFAULT) -> None:
        assert keep >= 1, f"an event log keeps at least one event, not {keep}"
        self._environment = environment
        self._node = node
        self._keep = keep
        self._bytes_max = environment.map_bytes_max // 4
        self._buffer: deque[NodeEvent] = deque()
        self._unreported = 0
        self._dropped = 0
        self._appended = trio.Event()
        self._written = trio.Event()
        self._last_sequence = environment.read(_last_sequence)

    @property
    def last_sequence(self) -> int:
        """The number of the newest event on disk, 0 before the first."""
        return self._last_sequence

    @property
    def dropped(self) -> int:
        """How many events this process could not keep."""
        return self._dropped

    def append(  # noqa: PLR0913 - the fields of an event, by name
        self,
        kind: EventKind,
        message: str,
        *,
        at_ms: WallMs,
        severity: Severity = Severity.INFO,
        service: ServiceId | None = None,
        allocation: AllocationId | None = None,
        revision: SpecRevision | None = None,
        exit_code: int | None = None,
        log_index: LogIndex | None = None,
        figure: str = "",
    ) -> None:
        """Note that something happened; returns at once and never fails."""
        if len(message) > MESSAGE_CHARACTERS_MAX:
            message = message[: MESSAGE_CHARACTERS_MAX - 1] + "…"
        event = NodeEvent(
            sequence=0,
            at_ms=at_ms,
            node=self._node,
            kind=kind,
            message=message,
            severity=severity,
            service=service,
            allocation=allocation,
            revision=revision,
            exit_code=exit_code,
            log_index=log_index,
            figure=figure,
        )
        if len(self._buffer) >= BUFFER_MAX:
            self._buffer.popleft()
            self._unreported += 1
            self._dropped += 1
        self._buffer.append(event)
        self._appended.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what is appended until cancelled, and what is left then within 5 s."""
        ending = trio.Event()

        async def limit_the_end(scope: trio.CancelScope) -> None:
            try:
                await trio.sleep_forever()
            finally:
                scope.deadline = trio.current_time() + LAST_FLUSH_S
                ending.set()
                self._appended.set()

        async with trio.open_nursery() as nursery:
            # Shielded: a batch whose write was given up might be on disk or not, and come twice or never.
            with trio.CancelScope(shield=True) as scope:
                nursery.start_soon(limit_the_end, scope)
                task_status.started()
                while True:
                    await self._appended.wait()
                    is_flushed = await self._flush()
                    if ending.is_set():
                        return
                    if not is_flushed:
                        with trio.move_on_after(RETRY_S):
                            await ending.wait()

    def read(
        self,
        after: int | None,
        limit: int,
        service: ServiceId | None = None,
        allocation: AllocationId | None = None,
        *,
        before: int | None = None,
        is_of_cluster: bool = False,
    ) -> list[NodeEvent]:
        """At most `limit` events, oldest first: the first ones after number `after`, or with None the newest.

        Those from number `before` on are left out. `service` and `allocation` choose those
        about them, `is_of_cluster` those that came by gossip. Raises `InvalidRequestError` for
        a limit outside 1 to 1,000 or a negative number.
        """
        if not 1 <= limit <= READ_MAX:
            raise InvalidRequestError(f"{limit} events cannot be read at once; ask for 1 to {READ_MAX}")
        for number in (after, before):
            if number is not None and number < 0:
                raise InvalidRequestError(f"there is no event number {number}; numbers begin with 1")
        subject = _CLUSTER if is_of_cluster else _subject(service, allocation)
        start = _key(0 if after is None else after + 1)
        stop = _key(SEQUENCE_MAX if before is None else before)
        rows = _Rows(subject or b"", start, stop, is_newest=after is None)
        return self._environment.read(lambda view: _read(view, rows, limit, service))

    async def wait_after(self, sequence: int) -> None:
        """Return when there is an event with a number above `sequence`."""
        while self._last_sequence <= sequence:
            await self._written.wait()
        await trio.lowlevel.checkpoint()

    async def _flush(self) -> bool:
        """Write the buffer in batches, oldest first; False when the store took no more."""
        while self._buffer:
            # Taken out before the wait: `append` may drop from the left meanwhile.
            batch = [self._buffer.popleft() for _ in range(min(BATCH_MAX, len(self._buffer)))]
            reported, self._unreported = self._unreported, 0
            if reported:
                batch.insert(0, self._loss(reported, batch[0].at_ms))
            try:
                self._last_sequence = await self._environment.write(_appending(batch, self._keep, self._bytes_max))
            except OrcaError as error:
                self._give_back(batch[1:] if reported else batch, reported)
                _log.warning("events_not_written", reason=error.message, waiting=len(self._buffer))
                return False
            self._written.set()
            self._written = trio.Event()
        self._appended = trio.Event()
        return True

    def _give_back(self, batch: list[NodeEvent], reported: int) -> None:
        """Put an unwritten batch before what was appended meanwhile, as far as there is room."""
        room = BUFFER_MAX - len(self._buffer)
        lost = max(0, len(batch) - room)
        self._buffer.extendleft(reversed(batch[lost:]))
        self._unreported += reported + lost
        self._dropped += lost

    def _loss(self, count: int, at_ms: WallMs) -> NodeEvent:
        return NodeEvent(
            sequence=0,
            at_ms=at_ms,
            node=self._node,
            kind=EventKind.STORE_FULL,
            message=f"{count} events were lost while the store took no writes.",
            severity=Severity.WARNING,
        )


def _appending(batch: list[NodeEvent], keep: int, bytes_max: int) -> Callable[[WriteView], int]:
    """A change that numbers and writes `batch`, trims the ring, and gives the last number."""

    def change(view: WriteView) -> int:
        sequence = _last_sequence(view)
        for event in batch:
            sequence += 1
            numbered = msgspec.structs.replace(event, sequence=sequence)
            view.put(Database.EVENTS, _key(sequence), msgspec.msgpack.encode(numbered))
            for subject in _subjects(event):
                view.put(Database.EVENT_INDEX, subject + _key(sequence), b"")
        _trim(view, sequence - keep + 1)
        while (count := view.count(Database.EVENTS)) > 1 and view.used_bytes(*_RING) > bytes_max:
            _trim(view, sequence - count + 1 + max(1, count // 16))
        return sequence

    return change


def _trim(view: WriteView, first_kept: int) -> None:
    """Remove the events before number `first_kept` and what the index says of them."""
    if first_kept <= 1:
        return
    stop = _key(first_kept)
    for key, record in list(view.scan(Database.EVENTS, stop=stop)):
        event = _decoded(record)
        for subject in () if event is None else _subjects(event):
            view.delete(Database.EVENT_INDEX, subject + key)
    view.delete_range(Database.EVENTS, stop=stop)


def _read(view: ReadView, wanted: _Rows, limit: int, service: ServiceId | None) -> list[NodeEvent]:
    database = Database.EVENT_INDEX if wanted.prefix else Database.EVENTS
    start, stop = wanted.prefix + wanted.start, wanted.prefix + wanted.stop
    # The newest are found from the end, and turned round.
    found: list[NodeEvent] = []
    rows = view.scan_back(database, start, stop) if wanted.is_newest else view.scan(database, start, stop)
    for key, record in rows:
        event = _decoded(view.get(Database.EVENTS, key[-8:]) if wanted.prefix else record)
        if event is None:
            continue
        if service is not None and event.service != service:
            return []  # asked for by allocation, which is of another service
        found.append(event)
        if len(found) == limit:
            break
    return found[::-1] if wanted.is_newest else found


def _decoded(record: bytes | None) -> NodeEvent | None:
    """The event, or None where the record is unreadable: history may lose a line."""
    if record is None:
        return None
    try:
        return _decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _last_sequence(view: ReadView) -> int:
    key = view.last_key(Database.EVENTS)
    return 0 if key is None else int.from_bytes(key, "big")


def _key(sequence: int) -> bytes:
    return min(sequence, SEQUENCE_MAX).to_bytes(8, "big")


_CLUSTER = b"c" + bytes(16)


def _subject(service: ServiceId | None, allocation: AllocationId | None) -> bytes | None:
    """Where the index has the events of the narrower of the two."""
    if allocation is not None:
        return _hashed(b"a", allocation)
    return None if service is None else _hashed(b"s", service)


def _subjects(event: NodeEvent) -> list[bytes]:
    found = [] if event.service is None else [_hashed(b"s", event.service)]
    if event.kind in CLUSTER_KINDS:
        found.append(_CLUSTER)
    return found if event.allocation is None else [*found, _hashed(b"a", event.allocation)]


def _hashed(kind: bytes, name: str) -> bytes:
    """17 bytes for a name of any length, so that no name is the beginning of another's key."""
    return kind + hashlib.blake2b(name.encode(), digest_size=16).digest()
