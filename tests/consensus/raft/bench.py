"""One machine whose steps are all saved, and short words for what it hears and says."""

import random

from consensus.raft import (
    Effect,
    Message,
    MessageReceived,
    RaftConfig,
    RaftMachine,
    SendMessage,
    Tick,
    collect_write,
)
from consensus.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    PreVoteReply,
    RequestVote,
    VoteReply,
)
from consensus.storage import HardState, LoadedLog
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant
from tests.contracts.log_store import entries_from

A, B, C, D, E = (NodeId(name) for name in ("n-a", "n-b", "n-c", "n-d", "n-e"))
START = Instant(100.0)
T = RaftConfig().election_timeout_s


class Bench:
    """One machine, of which every step is saved, and a clock."""

    def __init__(
        self,
        *terms: int,
        term: int = 0,
        voted_for: NodeId | None = None,
        epoch: int = 0,
        voters: tuple[NodeId, ...] = (A, B, C),
        config: RaftConfig | None = None,
    ) -> None:
        hard_state = HardState(term=Term(term or max(terms, default=0)), voted_for=voted_for, epoch=epoch)
        loaded = LoadedLog(hard_state=hard_state, entries=entries_from(1, *terms))
        self.machine = RaftMachine(A, frozenset(voters), loaded, config or RaftConfig(), random.Random(7))
        self.now = START
        self.step(Tick())

    def step(self, event: object) -> list[Effect]:
        effects = self.machine.step(event, self.now)  # type: ignore[arg-type]
        self.machine.check_invariants()
        collect_write(effects)
        return effects

    def hear(self, sender: NodeId, message: Message) -> list[Effect]:
        return self.step(MessageReceived(sender=sender, message=message))

    def time_out(self) -> list[Effect]:
        """Its own timer ends."""
        deadline = self.machine.deadline()
        assert deadline is not None
        self.now = max(self.now, deadline)
        return self.step(Tick())

    def lead(self) -> list[Effect]:
        """Win an election with the votes of all others."""
        self.time_out()
        others = [voter for voter in self.machine.membership.voters if voter != A]
        term = self.machine.term
        for voter in others:
            self.hear(voter, PreVoteReply(term=term, epoch=self.machine.epoch, for_term=term, is_granted=True))
        effects: list[Effect] = []
        for voter in others:
            effects += self.hear(voter, VoteReply(term=Term(term + 1), epoch=self.machine.epoch, is_granted=True))
        assert self.machine.is_leader
        return effects

    def stored(self, sender: NodeId, index: int) -> list[Effect]:
        """`sender` stores the log up to `index`."""
        reply = AppendReply(term=self.machine.term, epoch=0, is_accepted=True, index=LogIndex(index))
        return self.hear(sender, reply)


def sent(effects: list[Effect], to: NodeId | None = None) -> list[Message]:
    return [e.message for e in effects if isinstance(e, SendMessage) and to in (None, e.to)]


def vote_request(term: int, last_index: int, last_term: int, *, is_transfer: bool = False) -> RequestVote:
    return RequestVote(
        term=Term(term), epoch=0, last_index=LogIndex(last_index), last_term=Term(last_term), is_transfer=is_transfer
    )


def append(term: int, after: tuple[int, int], *terms: int, commit: int = 0) -> AppendEntries:
    return AppendEntries(
        term=Term(term),
        epoch=0,
        prev_index=LogIndex(after[0]),
        prev_term=Term(after[1]),
        entries=entries_from(after[0] + 1, *terms),
        commit_index=LogIndex(commit),
    )


def heartbeat(term: int, commit: int = 0, number: int = 1) -> Heartbeat:
    return Heartbeat(term=Term(term), epoch=0, commit_index=LogIndex(commit), round=number)
