"""The reading end: puts pieces together and refuses what does not fit."""

import zlib
from typing import Final, TypeAlias

import msgspec

from consensus.feed.messages import Committed, Current, FeedMessage, Follow, Place, SnapshotBegun, SnapshotPart
from consensus.storage import Entry, Snapshot
from orca.errors import PeerProtocolError
from orca.model.ids import LogIndex, Term

SNAPSHOT_BYTES_MAX: Final = 512 * 2**20


class Learn(msgspec.Struct, frozen=True, kw_only=True):
    """These entries are committed and follow what was there."""

    entries: tuple[Entry, ...]


class Install(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that replaces everything; `epoch` is the life of the group that it belongs to."""

    epoch: int
    snapshot: Snapshot


News: TypeAlias = Learn | Install | Current


class FeedReader:
    """A reader's memory over any number of sources.

    `follow()` is what to ask the next source for; `read` takes what it says.
    """

    def __init__(self, epoch: int, index: LogIndex, term: Term) -> None:
        self.epoch = epoch
        self.index = index
        self.term = term
        self._place: Place | None = None
        self._pending_epoch = epoch
        self._parts: list[bytes] = []

    def follow(self) -> Follow:
        """The first message to a source."""
        return Follow(epoch=self.epoch, after=self.index, term=self.term, partial=self._place)

    def read(self, message: FeedMessage) -> News | None:
        """What `message` means; None for a piece of something larger.

        Raises PeerProtocolError for what cannot be: a gap, another epoch's past, a damaged snapshot.
        The reader is then as it was, but for a snapshot that it has to begin again.
        """
        match message:
            case Committed():
                return self._on_entries(message)
            case SnapshotBegun():
                return self._on_begun(message)
            case SnapshotPart():
                return self._on_part(message)
            case Current():
                if message.epoch < self.epoch:
                    raise PeerProtocolError(f"a source is of epoch {message.epoch}, which epoch {self.epoch} outranks")
                return message
            case _:
                raise PeerProtocolError("a source of intent asked to follow its own reader")

    def _on_entries(self, message: Committed) -> Learn | None:
        if message.epoch != self.epoch and self.index:
            raise PeerProtocolError(
                f"entries of epoch {message.epoch} came to a copy of epoch {self.epoch} without a snapshot between them"
            )
        index, term = self.index, self.term
        for entry in message.entries:
            if entry.index != index + 1 or entry.term < term:
                raise PeerProtocolError(
                    f"entry {entry.index} of term {entry.term} does not follow entry {index} of term {term}"
                )
            index, term = entry.index, entry.term
        if not message.entries:
            return None
        self.epoch, self.index, self.term = message.epoch, index, term
        self._place, self._parts = None, []
        return Learn(entries=message.entries)

    def _on_begun(self, message: SnapshotBegun) -> Install | None:
        place = message.place
        if message.epoch < self.epoch:
            raise PeerProtocolError(f"a snapshot of epoch {message.epoch} came to a copy of epoch {self.epoch}")
        if message.epoch == self.epoch and place.meta.last_index <= self.index:
            raise PeerProtocolError(f"a snapshot up to {place.meta.last_index} came to a copy up to {self.index}")
        if not 0 <= place.offset <= place.size <= SNAPSHOT_BYTES_MAX:
            raise PeerProtocolError(f"a snapshot of {place.size} bytes; {SNAPSHOT_BYTES_MAX} is the most")
        held = self._place
        is_same = held is not None and (held.meta, held.size, held.checksum) == (
            place.meta,
            place.size,
            place.checksum,
        )
        if place.offset and not (is_same and held is not None and held.offset == place.offset):
            raise PeerProtocolError(f"a snapshot goes on at byte {place.offset}, where this copy does not stand")
        if not place.offset:
            self._parts = []
        self._place = place
        self._pending_epoch = message.epoch
        return self._finish() if place.offset == place.size else None

    def _on_part(self, message: SnapshotPart) -> Install | None:
        place = self._place
        if place is None or message.offset != place.offset or place.offset + len(message.data) > place.size:
            raise PeerProtocolError(f"a piece of a snapshot at byte {message.offset} fits nothing that was begun")
        self._parts.append(message.data)
        self._place = msgspec.structs.replace(place, offset=place.offset + len(message.data))
        return self._finish() if self._place.offset == place.size else None

    def _finish(self) -> Install:
        place, payload = self._place, b"".join(self._parts)
        self._place, self._parts = None, []
        assert place is not None, "no snapshot was begun"
        if zlib.crc32(payload) != place.checksum:
            raise PeerProtocolError("a snapshot was damaged on its way: its checksum is another")
        self.epoch, self.index, self.term = self._pending_epoch, place.meta.last_index, place.meta.last_term
        return Install(epoch=self.epoch, snapshot=Snapshot(meta=place.meta, payload=payload))
