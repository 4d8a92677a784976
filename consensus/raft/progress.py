"""What a leader knows of one peer: how far its log is known to reach, and what is on its way there."""

import enum
from collections import deque
from typing import NamedTuple

import msgspec

from consensus.raft.config import RaftConfig
from consensus.raft.transfer import SnapshotTransfer
from orca.model.ids import LogIndex, NodeId
from orca.model.units import Instant


class PeerState(enum.Enum):
    """How a leader feeds a peer (§10.2.1).

    PROBE: it is not known where the logs part; one append at a time asks. REPLICATE: they agree,
    and appends are sent without waiting for answers. SNAPSHOT: the peer needs what the log no longer has.
    """

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class PeerProgress(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `orca quorum`, as the leader sees it.

    `lag` counts entries; `contact_at` is when the peer was last heard of. `has_caught_up`: it
    stores entries about as fast as they are made, so it may become a voter.
    """

    node: NodeId
    is_voter: bool
    match_index: LogIndex
    next_index: LogIndex
    state: PeerState
    lag: int
    contact_at: Instant
    has_caught_up: bool


class _Inflight(NamedTuple):
    last_index: LogIndex
    size: int
    sent_round: int


class CatchUp:
    """Rounds of replication to a peer: each takes it to where the log ended when the round began (§4.2.1).

    A peer whose last round took no longer than an election timeout may vote: the group would not
    wait for it longer than for an election.
    """

    def __init__(self, last_index: LogIndex, now: Instant) -> None:
        self.rounds = 0
        self.last_round_s: float | None = None
        self._target: LogIndex | None = last_index
        self._began_at = now

    def observe(self, match_index: LogIndex, last_index: LogIndex, now: Instant) -> None:
        """Look at the peer now: end a round, begin the next."""
        if self._target is not None and match_index >= self._target:
            self.rounds += 1
            self.last_round_s = now - self._began_at
            self._target = None
        if self._target is None and match_index < last_index:
            self._target, self._began_at = last_index, now

    def is_done(self, limit_s: float, now: Instant) -> bool:
        """Whether a round has ended, and neither it nor the one under way takes longer than `limit_s`."""
        if self.last_round_s is None or self.last_round_s > limit_s:
            return False
        return self._target is None or now - self._began_at <= limit_s


class Progress:
    """A mutable record, one a peer, for as long as this node leads.

    `match_index`: the peer's log is known to equal the leader's up to there. `next_index`: what is sent next.
    `told_commit`: the commit index that the peer was told last, in round `told_round`. `acked_round`: the
    newest round of heartbeats that it answered. `departs_at`: a removed member still learns of its removal until then.
    """

    def __init__(self, next_index: LogIndex, last_index: LogIndex, now: Instant) -> None:
        self.match_index = LogIndex(0)
        self.next_index = next_index
        self.state = PeerState.PROBE
        self.contact_at = now
        self.told_commit = LogIndex(0)
        self.told_round = 0
        self.acked_round = 0
        self.departs_at: Instant | None = None
        self.transfer: SnapshotTransfer | None = None
        self.catch_up = CatchUp(last_index, now)
        self._inflight: deque[_Inflight] = deque()
        self._inflight_bytes = 0

    @property
    def inflight_appends(self) -> int:
        """How many appends are not answered yet."""
        return len(self._inflight)

    def has_room(self, config: RaftConfig) -> bool:
        """Whether another append may be sent before an earlier one is answered."""
        if self.state is PeerState.PROBE:
            return not self._inflight
        return len(self._inflight) < config.inflight_appends_max and self._inflight_bytes < config.inflight_bytes_max

    def sent(self, last_index: LogIndex, size: int, heartbeat_round: int) -> None:
        """An append up to `last_index` is on its way, after that round of heartbeats."""
        self._inflight.append(_Inflight(last_index, size, heartbeat_round))
        self._inflight_bytes += size
        if self.state is PeerState.REPLICATE:
            self.next_index = LogIndex(last_index + 1)

    def tell(self, commit_index: LogIndex, heartbeat_round: int) -> None:
        """The peer is being told what is committed, and will be again with each heartbeat."""
        if commit_index > self.told_commit:
            self.told_commit, self.told_round = commit_index, heartbeat_round

    def knows_commit(self, index: LogIndex) -> bool:
        """Whether the peer certainly knows that entry `index` is committed: it answered a later heartbeat."""
        return self.told_commit >= index and self.acked_round > self.told_round

    def accepted(self, index: LogIndex) -> bool:
        """The peer stores the log up to `index`; whether that is news. An old answer takes nothing back."""
        is_news = index > self.match_index
        if is_news:
            self.match_index = index
        while self._inflight and self._inflight[0].last_index <= index:
            self._inflight_bytes -= self._inflight.popleft().size
        if self.transfer is not None:
            agrees = index >= self.transfer.snapshot.meta.last_index
        else:
            agrees = self.state is PeerState.PROBE and (is_news or index == self.next_index - 1)
        if agrees:
            self._replicate()
        self.next_index = max(self.next_index, LogIndex(self.match_index + 1))
        return is_news

    def is_stale_refusal(self, prev_index: LogIndex) -> bool:
        """Whether a refusal of `prev_index` says nothing new: answers may come twice or late."""
        if self.state is PeerState.PROBE:
            return prev_index != self.next_index - 1 or prev_index <= self.match_index
        return self.state is PeerState.SNAPSHOT or prev_index <= self.match_index

    def probe(self, next_index: LogIndex) -> None:
        """Ask anew where the logs part, beginning at `next_index`."""
        self.state = PeerState.PROBE
        self.next_index = max(next_index, LogIndex(self.match_index + 1))
        self.transfer = None
        self._clear_inflight()

    def install(self, transfer: SnapshotTransfer) -> None:
        """The peer gets a snapshot first."""
        self.state, self.transfer = PeerState.SNAPSHOT, transfer
        self._clear_inflight()

    def answered_heartbeat(self, heartbeat_round: int) -> None:
        """What was sent before that round and is not answered by now is lost: send it again."""
        self.acked_round = max(self.acked_round, heartbeat_round)
        if self.transfer is not None:
            self.transfer.answered(heartbeat_round)
        elif self._inflight and self._inflight[0].sent_round < heartbeat_round:
            self.probe(self.next_index if self.state is PeerState.PROBE else LogIndex(self.match_index + 1))

    def _replicate(self) -> None:
        self.state = PeerState.REPLICATE
        self.transfer = None
        self.next_index = LogIndex(self.match_index + 1)
        self._clear_inflight()

    def _clear_inflight(self) -> None:
        self._inflight.clear()
        self._inflight_bytes = 0

    def check_invariants(self, last_index: LogIndex, config: RaftConfig) -> None:
        """What always holds between two steps of a leader."""
        assert self.match_index < self.next_index <= last_index + 1, (
            f"matches to {self.match_index}, goes on at {self.next_index}, and the log ends with {last_index}"
        )
        assert (self.transfer is not None) == (self.state is PeerState.SNAPSHOT), f"{self.state} with {self.transfer}"
        assert self._inflight_bytes == sum(one.size for one in self._inflight), "the sum of bytes in flight is wrong"
        assert len(self._inflight) <= (1 if self.state is PeerState.PROBE else config.inflight_appends_max), (
            f"{len(self._inflight)} appends in flight while {self.state}"
        )
        if self.state is PeerState.PROBE and self.match_index < last_index:
            assert self.next_index <= last_index, "there is something to send, and nothing will make it be sent"
        indexes = [one.last_index for one in self._inflight]
        assert indexes == sorted(indexes), f"appends in flight are out of order: {indexes}"
        if self.state is PeerState.REPLICATE and indexes:
            assert indexes[-1] == self.next_index - 1, "what is in flight is not what was sent last"
