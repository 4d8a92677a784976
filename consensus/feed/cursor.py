"""One reader's place in a source."""

import zlib
from typing import Final, Protocol

from consensus.feed.messages import Committed, FeedMessage, Follow, Place, SnapshotBegun, SnapshotPart
from consensus.storage import Entry, Snapshot
from orca.model.ids import LogIndex, Term

BATCH_BYTES: Final = 256 * 1024
"""A piece that is on its way in a few milliseconds, and large enough to fill a link."""
BATCH_ENTRIES: Final = 512


class Source(Protocol):
    """A copy of the committed log."""

    @property
    def epoch(self) -> int:
        """Which life of the group it belongs to."""
        ...

    @property
    def commit_index(self) -> LogIndex:
        """The last entry that is known to be committed."""
        ...

    def term_at(self, index: LogIndex) -> Term | None:
        """The term of entry `index`; None for one that it does not have (any more, or yet).

        That of index 0 is 0 as long as nothing was compacted.
        """
        ...

    def committed(self, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        """Entries `first` to `last`, both included, all of which it has."""
        ...

    def snapshot(self) -> Snapshot | None:
        """The newest snapshot."""
        ...


class Cursor:
    """What to send next to a reader that asked to follow."""

    def __init__(self, follow: Follow) -> None:
        self._follow: Follow | None = follow
        self._index = follow.after
        self._term = follow.term
        self._epoch = follow.epoch
        self._sending: Snapshot | None = None
        self._offset = 0

    @property
    def index(self) -> LogIndex:
        """The last entry that the reader has, or will have with what was sent."""
        return self._index

    def next(self, source: Source) -> FeedMessage | None:
        """The next piece; None while the reader has everything."""
        if self._sending is not None:
            return self._next_part()
        is_same_life = self._epoch == source.epoch or (not self._index and self._epoch < source.epoch)
        if self._epoch > source.epoch or (is_same_life and self._index > source.commit_index):
            return None  # the reader knows more than this source: it must wait, or ask another
        is_known = is_same_life and source.term_at(self._index) == self._term
        if not is_known:
            return self._begin(source)
        self._epoch = source.epoch
        return self._next_entries(source)

    def _begin(self, source: Source) -> SnapshotBegun | None:
        snapshot = source.snapshot()
        if snapshot is None or (snapshot.meta.last_index <= self._index and self._epoch == source.epoch):
            return None
        self._epoch = source.epoch
        whole = Place(meta=snapshot.meta, size=len(snapshot.payload), checksum=zlib.crc32(snapshot.payload), offset=0)
        partial = None if self._follow is None else self._follow.partial
        self._follow = None
        is_same = partial is not None and (partial.meta, partial.size, partial.checksum) == (
            whole.meta,
            whole.size,
            whole.checksum,
        )
        self._offset = min(partial.offset, whole.size) if partial is not None and is_same else 0
        self._sending = snapshot
        place = Place(meta=whole.meta, size=whole.size, checksum=whole.checksum, offset=self._offset)
        return SnapshotBegun(epoch=source.epoch, place=place)

    def _next_part(self) -> SnapshotPart:
        assert self._sending is not None, "no snapshot is on its way"
        payload = self._sending.payload
        part = SnapshotPart(offset=self._offset, data=payload[self._offset : self._offset + BATCH_BYTES])
        self._offset += len(part.data)
        if self._offset >= len(payload):
            meta = self._sending.meta
            self._index, self._term, self._sending = meta.last_index, meta.last_term, None
        return part

    def _next_entries(self, source: Source) -> Committed | None:
        last = min(source.commit_index, LogIndex(self._index + BATCH_ENTRIES))
        if last <= self._index:
            return None
        chosen: list[Entry] = []
        size = 0
        for entry in source.committed(LogIndex(self._index + 1), LogIndex(last)):
            chosen.append(entry)
            size += len(entry.payload)
            if size >= BATCH_BYTES:
                break
        self._index, self._term = chosen[-1].index, chosen[-1].term
        return Committed(epoch=source.epoch, entries=tuple(chosen))
