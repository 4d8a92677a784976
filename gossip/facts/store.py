"""The facts of all writers, their sizes, and a hash that tells whether two nodes know the same."""

import hashlib
import itertools
import struct
from typing import Final

from gossip.facts.frames import BUCKET_BYTES, BUCKETS_MAX, Summary
from gossip.facts.writer import WriterState

WRITERS_PER_BUCKET: Final = 8
"""A difference in one bucket costs a digest of so many writers."""


class FactStore:
    """Writer states by name.

    Only *present* writers count in the hash: whoever has gone is forgotten by each node in
    its own time.
    """

    def __init__(self) -> None:
        self._states: dict[str, WriterState] = {}
        self._present: dict[str, int] = {}
        self._hashes: list[int] = [0] * BUCKETS_MAX
        self._members: list[dict[str, None]] = [{} for _ in range(BUCKETS_MAX)]
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, writer: str) -> bool:
        return writer in self._states

    def writers(self) -> list[str]:
        """Everybody of whom facts are held, by name."""
        return sorted(self._states)

    def some(self, start: int, count: int) -> list[WriterState]:
        """States in the order they came, from number `start` on."""
        return list(itertools.islice(self._states.values(), start, start + count))

    def get(self, writer: str) -> WriterState:
        """What is known of `writer`; nothing at all is a state too."""
        return self._states.get(writer) or WriterState(writer)

    def put(self, state: WriterState, bytes_before: int) -> None:
        """Hold `state`, which took `bytes_before` until now."""
        self._states[state.writer] = state
        self.bytes += state.bytes - bytes_before
        self._rehash(state.writer)

    def erase(self, writer: str) -> WriterState | None:
        """Forget all of a writer's facts."""
        state = self._states.pop(writer, None)
        if state is not None:
            self.bytes -= state.bytes
            self._rehash(writer)
        return state

    def appear(self, writer: str) -> None:
        """The writer is a member now."""
        if writer not in self._present:
            self._present[writer] = 0
            self._members[bucket_of(writer)][writer] = None
            self._rehash(writer)

    def depart(self, writer: str) -> None:
        """The writer is no member any more; its facts stay for now."""
        known = self._present.pop(writer, None)
        if known is not None:
            bucket = bucket_of(writer)
            self._hashes[bucket] ^= known
            del self._members[bucket][writer]

    def is_present(self, writer: str) -> bool:
        """Whether the writer is a member."""
        return writer in self._present

    @property
    def present_count(self) -> int:
        """How many writers are members."""
        return len(self._present)

    def summary(self) -> Summary:
        """The hash, in as many buckets as make a difference cheap to find."""
        count = 1
        while count < BUCKETS_MAX and count * WRITERS_PER_BUCKET < len(self._present):
            count *= 2
        return Summary(self._folded(count))

    def differing(self, summary: Summary) -> list[str]:
        """The present writers among whom we and the sender of `summary` differ; empty when we know the same."""
        count = len(summary.buckets) // BUCKET_BYTES
        ours = self._folded(count)
        writers: list[str] = []
        for bucket in range(count):
            place = bucket * BUCKET_BYTES
            if ours[place : place + BUCKET_BYTES] != summary.buckets[place : place + BUCKET_BYTES]:
                for fine in range(bucket, BUCKETS_MAX, count):
                    writers += self._members[fine]
        return sorted(writers)

    def check_invariants(self) -> None:
        """Raise AssertionError when sizes or hashes are counted wrong."""
        for writer, state in self._states.items():
            assert state.writer == writer, f"{writer} stands for {state.writer}"
            state.check_invariants()
        assert self.bytes == sum(state.bytes for state in self._states.values()), "bytes of all writers add up"
        hashes = [0] * BUCKETS_MAX
        for writer in self._present:
            hashes[bucket_of(writer)] ^= _state_hash(self.get(writer))
        assert hashes == self._hashes, "the hash fits what is known"

    def _folded(self, count: int) -> bytes:
        folded = [0] * count
        for bucket, value in enumerate(self._hashes):
            folded[bucket % count] ^= value
        return struct.pack(f">{count}I", *folded)

    def _rehash(self, writer: str) -> None:
        if writer in self._present:
            fresh = _state_hash(self.get(writer))
            self._hashes[bucket_of(writer)] ^= self._present[writer] ^ fresh
            self._present[writer] = fresh


def bucket_of(writer: str) -> int:
    """Where a writer is counted; the same on every node."""
    return hashlib.blake2b(writer.encode(), digest_size=1).digest()[0] % BUCKETS_MAX


def _state_hash(state: WriterState) -> int:
    """0 for a state that says nothing, so that not knowing a writer and knowing nothing of it are the same."""
    if state.version == 0:
        return 0
    text = f"{state.writer}\0{state.incarnation}\0{state.version}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
