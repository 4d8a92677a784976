"""Tables of what waits for an answer: reads of a leader, requests that a follower passed on."""

from collections import OrderedDict, deque
from typing import NamedTuple

from consensus.raft.requests import ProposalId, ReadId
from orca.model.ids import LogIndex, NodeId
from orca.model.units import Instant


class PendingRead(NamedTuple):
    """Reads that came together; `origin` is the node that passed them on, None for this one."""

    origin: NodeId | None
    session: int
    read_ids: tuple[ReadId, ...]


class _Round(NamedTuple):
    number: int
    commit_index: LogIndex
    reads: list[PendingRead]


class ReadQueue:
    """Reads of a leader on their way to an answer (§6.4).

    Each waits for a round of heartbeats that began after it came, and is then answered with the commit index of
    the time when that round began.
    """

    def __init__(self) -> None:
        self._waiting: list[PendingRead] = []
        self._rounds: deque[_Round] = deque()
        self.count = 0

    @property
    def has_waiting(self) -> bool:
        """Whether reads wait for a round to begin."""
        return bool(self._waiting)

    def add(self, read: PendingRead) -> None:
        """A new read."""
        self._waiting.append(read)
        self.count += len(read.read_ids)

    def begin_round(self, number: int, index: LogIndex) -> None:
        """All that wait go with round `number`."""
        self._rounds.append(_Round(number, index, self._waiting))
        self._waiting = []

    def confirm(self, number: int) -> list[tuple[LogIndex, PendingRead]]:
        """A quorum answered round `number`: what may be answered now, and from which index on."""
        ready = []
        while self._rounds and self._rounds[0].number <= number:
            done = self._rounds.popleft()
            ready += [(done.commit_index, read) for read in done.reads]
        self.count -= sum(len(read.read_ids) for _, read in ready)
        return ready

    def drain(self) -> list[PendingRead]:
        """All of them, which nobody will answer."""
        reads = [read for one in self._rounds for read in one.reads] + self._waiting
        self._rounds.clear()
        self._waiting = []
        self.count = 0
        return reads


class Forwarded:
    """Requests of this node that it passed on to the leader, until they are answered or time is up."""

    def __init__(self) -> None:
        self._proposals: dict[ProposalId, Instant] = {}
        self._reads: dict[ReadId, Instant] = {}

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._proposals) + len(self._reads)

    def add_proposal(self, proposal_id: ProposalId, until: Instant) -> None:
        """A proposal was passed on."""
        self._proposals[proposal_id] = until

    def add_read(self, read_id: ReadId, until: Instant) -> None:
        """A read was passed on."""
        self._reads[read_id] = until

    def end_proposal(self, proposal_id: ProposalId) -> bool:
        """An answer came; whether anybody still waits for it."""
        return self._proposals.pop(proposal_id, None) is not None

    def end_read(self, read_id: ReadId) -> bool:
        """An answer came; whether anybody still waits for it."""
        return self._reads.pop(read_id, None) is not None

    def next_end(self) -> Instant | None:
        """When the oldest is given up."""
        ends = [next(iter(table.values())) for table in (self._proposals, self._reads) if table]
        return min(ends) if ends else None

    def take_until(self, now: Instant) -> tuple[list[ProposalId], list[ReadId]]:
        """What is given up by now."""
        proposals = [proposal for proposal, until in self._proposals.items() if until <= now]
        reads = [read for read, until in self._reads.items() if until <= now]
        for proposal in proposals:
            del self._proposals[proposal]
        for read in reads:
            del self._reads[read]
        return proposals, reads


_SENDERS_MAX = 1024
_WINDOW = 1024


class _Window:
    """The sequences of one life of a node that were seen lately."""

    def __init__(self) -> None:
        self.highest = 0
        self.recent: dict[int, None] = {}


class SeenForwards:
    """What a leader was handed on in its term, so that a message that comes twice is taken once.

    Bounded: `_SENDERS_MAX` lives of nodes, and the last `_WINDOW` messages of each; what is older counts as seen.
    """

    def __init__(self) -> None:
        self._by_sender: OrderedDict[tuple[NodeId, int], _Window] = OrderedDict()

    def is_new(self, sender: NodeId, session: int, sequence: int) -> bool:
        """Whether it came for the first time; remembers that it came."""
        window = self._by_sender.setdefault((sender, session), _Window())
        self._by_sender.move_to_end((sender, session))
        if len(self._by_sender) > _SENDERS_MAX:
            self._by_sender.popitem(last=False)
        if sequence <= window.highest - _WINDOW or sequence in window.recent:
            return False
        window.highest = max(window.highest, sequence)
        window.recent[sequence] = None
        if len(window.recent) > 2 * _WINDOW:
            window.recent = {one: None for one in window.recent if one > window.highest - _WINDOW}
        return True

    def clear(self) -> None:
        """A new term has begun, and what was sent in an earlier one is not taken any more."""
        self._by_sender.clear()
