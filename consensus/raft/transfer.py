"""A snapshot on its way, in pieces: what the leader has sent of it, and what a follower holds (§5.3)."""

import zlib
from typing import NamedTuple

from consensus.raft.messages import InstallSnapshot
from consensus.storage import Snapshot, SnapshotMeta


class SnapshotTransfer:
    """The leader's side: one snapshot to one follower, a piece at a time.

    It keeps its snapshot while a newer one is taken: otherwise a slow follower would begin anew
    with each compaction and never end.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.checksum = zlib.crc32(snapshot.payload)
        self.offset = 0
        self.is_waiting = False
        self.sent_round = 0

    def piece(self, bytes_max: int) -> bytes:
        """What comes next; empty for an empty snapshot only."""
        return self.snapshot.payload[self.offset : self.offset + bytes_max]

    def sent(self, heartbeat_round: int) -> None:
        """The piece at `offset` is on its way, after that round of heartbeats."""
        self.is_waiting, self.sent_round = True, heartbeat_round

    def wants(self, offset: int) -> None:
        """The follower asks for what begins at `offset`; an earlier answer that comes again changes nothing."""
        if offset != self.offset and 0 <= offset <= len(self.snapshot.payload):
            self.offset, self.is_waiting = offset, False

    def answered(self, heartbeat_round: int) -> None:
        """The follower answered that heartbeat: a piece from before it, unanswered still, is lost."""
        if self.sent_round < heartbeat_round:
            self.is_waiting = False


class _Identity(NamedTuple):
    meta: SnapshotMeta
    size: int
    checksum: int


class PartialSnapshot:
    """The follower's side: bytes of one snapshot at a time, at most `bytes_max` of them.

    The same snapshot goes on where it stopped, whoever sends it; another one begins anew.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._identity: _Identity | None = None
        self._held = bytearray()

    @property
    def held_bytes(self) -> int:
        """How much of it is here; what is wanted next begins there."""
        return len(self._held)

    def clear(self) -> None:
        """Forget it."""
        self._identity, self._held = None, bytearray()

    def is_too_large(self, message: InstallSnapshot) -> bool:
        """Whether this node takes no snapshot of that size."""
        return message.size > self._bytes_max

    def take(self, message: InstallSnapshot) -> bool:
        """Add a piece; whether the snapshot is whole now. A piece out of order is not taken."""
        identity = _Identity(message.meta, message.size, message.checksum)
        if identity != self._identity:
            self._identity, self._held = identity, bytearray()
        if message.offset == len(self._held):
            self._held += message.data
        return len(self._held) == message.size

    def finish(self) -> Snapshot | None:
        """The whole snapshot, None when its checksum does not fit; nothing is held any more."""
        identity, payload = self._identity, bytes(self._held)
        self.clear()
        assert identity is not None, "no snapshot was begun"
        if zlib.crc32(payload) != identity.checksum:
            return None
        return Snapshot(meta=identity.meta, payload=payload)

    def check_invariants(self) -> None:
        """Never more than allowed, and never more than there is."""
        size = 0 if self._identity is None else self._identity.size
        assert len(self._held) <= min(self._bytes_max, size), f"{len(self._held)} bytes held of {size}"
