"""A reader gets the committed log whole, from whichever source, however often it is cut off."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.feed import (
    Committed,
    Current,
    Cursor,
    FeedReader,
    Follow,
    Install,
    Learn,
    Place,
    SnapshotBegun,
    SnapshotPart,
    decode_feed,
    encode_feed,
)
from consensus.feed.cursor import BATCH_BYTES
from consensus.storage import Entry, Snapshot, SnapshotMeta
from orca.errors import PeerProtocolError
from orca.model.ids import LogIndex, Term


def entry(index: int, term: int = 1, payload: bytes = b"x") -> Entry:
    return Entry(term=Term(term), index=LogIndex(index), payload=payload)


class Copy:
    """A node's copy: a list of entries, of which the first `base` live in a snapshot."""

    def __init__(self, entries: list[Entry], base: int = 0, *, epoch: int = 0, filler: int = 0) -> None:
        self.epoch = epoch
        self.entries = entries
        self.base = base
        self.filler = filler

    @property
    def commit_index(self) -> LogIndex:
        return LogIndex(len(self.entries))

    def term_at(self, index: LogIndex) -> Term | None:
        if index == self.base == 0:
            return Term(0)
        return self.entries[index - 1].term if max(self.base, 1) <= index <= len(self.entries) else None

    def committed(self, first: LogIndex, last: LogIndex) -> tuple[Entry, ...]:
        assert first > self.base, "compacted away"
        return tuple(self.entries[first - 1 : last])

    def snapshot(self) -> Snapshot | None:
        if not self.base:
            return None
        meta = SnapshotMeta(last_index=LogIndex(self.base), last_term=self.entries[self.base - 1].term)
        body = msgspec.msgpack.encode(self.entries[: self.base]) + bytes(self.filler)
        return Snapshot(meta=meta, payload=body)


class Pupil:
    """A reader with what it has learnt."""

    def __init__(self) -> None:
        self.reader = FeedReader(0, LogIndex(0), Term(0))
        self.entries: list[Entry] = []

    def listen(self, source: Copy, *, pieces_max: int = 10_000) -> int:
        """Follow `source` until it has nothing more, or the line is cut after `pieces_max`."""
        follow = decode_feed(encode_feed(self.reader.follow()))
        assert isinstance(follow, Follow)
        cursor = Cursor(follow)
        pieces = 0
        while pieces < pieces_max and (message := cursor.next(source)) is not None:
            pieces += 1
            match self.reader.read(decode_feed(encode_feed(message))):
                case Learn(entries=entries):
                    self.entries += entries
                case Install(snapshot=snapshot):
                    decoder = msgspec.msgpack.Decoder(list[Entry])
                    body = snapshot.payload
                    self.entries = decoder.decode(body.rstrip(b"\0") if source.filler else body)
                case _:
                    pass
        return pieces


def test_a_new_node_gets_every_entry() -> None:
    source, pupil = Copy([entry(index) for index in range(1, 2001)]), Pupil()
    pupil.listen(source)
    assert pupil.entries == source.entries
    assert pupil.listen(source) == 0


def test_a_node_far_behind_gets_the_snapshot_and_what_follows() -> None:
    source, pupil = Copy([entry(index) for index in range(1, 2001)], base=1500), Pupil()
    pupil.listen(source)
    assert pupil.entries == source.entries


def test_a_snapshot_goes_on_where_the_line_was_cut() -> None:
    source = Copy([entry(index) for index in range(1, 51)], base=40, filler=5 * BATCH_BYTES)
    pupil = Pupil()
    pupil.listen(source, pieces_max=3)
    follow = pupil.reader.follow()
    assert follow.partial is not None
    assert follow.partial.offset == 2 * BATCH_BYTES
    pieces = pupil.listen(source)
    assert pieces < 7, "it began again"
    assert pupil.reader.index == 50


def test_another_snapshot_begins_anew() -> None:
    entries = [entry(index) for index in range(1, 51)]
    pupil = Pupil()
    pupil.listen(Copy(entries, base=40, filler=3 * BATCH_BYTES), pieces_max=2)
    pupil.listen(Copy(entries, base=45, filler=3 * BATCH_BYTES))
    assert pupil.reader.index == 50


def test_a_source_that_knows_less_says_nothing() -> None:
    entries = [entry(index) for index in range(1, 51)]
    pupil = Pupil()
    pupil.listen(Copy(entries))
    assert pupil.listen(Copy(entries[:30])) == 0
    assert pupil.listen(Copy(entries[:30], base=20)) == 0


def test_a_new_epoch_comes_with_its_snapshot() -> None:
    """After a recovery the log may have another past: entries alone would be appended to a lie."""
    pupil = Pupil()
    pupil.listen(Copy([entry(index) for index in range(1, 31)]))
    recovered = Copy([entry(index, 1 if index < 20 else 5) for index in range(1, 26)], base=22, epoch=1)
    pupil.listen(recovered)
    assert pupil.entries == recovered.entries
    assert pupil.reader.epoch == 1
    pupil.listen(Copy([entry(index) for index in range(1, 31)]))
    assert pupil.entries == recovered.entries


def test_a_node_that_has_nothing_gets_entries_of_any_epoch() -> None:
    """The group was started anew and nothing was compacted since: there is no snapshot to begin with."""
    recovered, pupil = Copy([entry(index) for index in range(1, 31)], epoch=3), Pupil()
    pupil.listen(recovered)
    assert pupil.entries == recovered.entries
    assert pupil.reader.epoch == 3


def test_a_source_of_an_epoch_that_was_given_up_is_left() -> None:
    reader = FeedReader(2, LogIndex(0), Term(0))
    with pytest.raises(PeerProtocolError, match="epoch 1, which epoch 2 outranks"):
        reader.read(Current(epoch=1, commit_index=LogIndex(9), age_ms=0, term=Term(7)))
    old = Copy([entry(index) for index in range(1, 31)], base=20, epoch=1)
    assert Cursor(reader.follow()).next(old) is None


def test_a_gap_is_refused() -> None:
    reader = FeedReader(0, LogIndex(4), Term(2))
    with pytest.raises(PeerProtocolError, match="entry 6 of term 2 does not follow entry 4"):
        reader.read(Committed(epoch=0, entries=(entry(6, 2),)))
    with pytest.raises(PeerProtocolError, match="entry 5 of term 1 does not follow"):
        reader.read(Committed(epoch=0, entries=(entry(5, 1),)))
    assert (reader.index, reader.term) == (4, 2)


def test_a_damaged_snapshot_is_refused_and_can_be_had_again() -> None:
    reader = FeedReader(0, LogIndex(0), Term(0))
    meta = SnapshotMeta(last_index=LogIndex(9), last_term=Term(3))
    place = Place(meta=meta, size=4, checksum=1, offset=0)
    reader.read(SnapshotBegun(epoch=0, place=place))
    with pytest.raises(PeerProtocolError, match="damaged on its way"):
        reader.read(SnapshotPart(offset=0, data=b"abcd"))
    assert reader.follow().partial is None
    assert reader.index == 0


def test_how_current_a_source_is_passes_through() -> None:
    reader = FeedReader(0, LogIndex(0), Term(0))
    word = Current(epoch=0, commit_index=LogIndex(0), age_ms=3, term=Term(1))
    assert reader.read(decode_feed(encode_feed(word))) == word


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(0, 60))
def test_any_sources_in_any_order_with_any_cuts_end_in_the_same_log(seed: int, length: int) -> None:
    rng = random.Random(seed)
    term, entries = 1, []
    for index in range(1, length + 1):
        term += rng.random() < 0.2
        entries.append(entry(index, term, bytes(rng.randrange(3))))
    pupil = Pupil()
    for _ in range(12):
        known = rng.randint(0, length)
        source = Copy(entries[:known], base=rng.randint(0, known))
        pupil.listen(source, pieces_max=rng.randint(1, 3))
        assert pupil.entries == entries[: pupil.reader.index]
    pupil.listen(Copy(entries, base=rng.randint(0, length)))
    assert pupil.entries == entries


_messages: st.SearchStrategy[Any] = st.one_of(
    st.builds(Committed, epoch=st.integers(0, 2), entries=st.lists(st.builds(entry, st.integers(0, 9))).map(tuple)),
    st.builds(
        SnapshotBegun,
        epoch=st.integers(0, 2),
        place=st.builds(
            Place,
            meta=st.builds(SnapshotMeta, last_index=st.integers(0, 9), last_term=st.integers(0, 3)),
            size=st.integers(-1, 9),
            checksum=st.integers(0, 2**32 - 1),
            offset=st.integers(-1, 9),
        ),
    ),
    st.builds(SnapshotPart, offset=st.integers(-1, 9), data=st.binary(max_size=9)),
    st.builds(Follow, epoch=st.integers(0, 2), after=st.integers(0, 9), term=st.integers(0, 3)),
)


@given(messages=st.lists(_messages, max_size=12))
def test_nothing_that_a_source_says_makes_a_reader_go_back(messages: list[Any]) -> None:
    reader = FeedReader(1, LogIndex(3), Term(1))
    for message in messages:
        before = (reader.epoch, reader.index)
        try:
            reader.read(message)
        except PeerProtocolError:
            assert (reader.epoch, reader.index) == before
        assert (reader.epoch, reader.index) >= before


@given(noise=st.binary(max_size=60))
def test_noise_is_no_message(noise: bytes) -> None:
    try:
        message = decode_feed(noise)
    except PeerProtocolError:
        return
    assert decode_feed(encode_feed(message)) == message
