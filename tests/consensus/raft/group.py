"""A group of machines on a clock and a network that the test moves by hand, with the properties that always hold.

The replicated state is the list of (index, payload) of all ordinary entries; its snapshot is that list.
"""

import random
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from consensus.raft import (
    Accepted,
    Apply,
    Effect,
    Event,
    LeaderChanged,
    MembershipChanged,
    MembershipProposed,
    Message,
    MessageReceived,
    Noted,
    Outranked,
    ProposalId,
    ProposalLost,
    ProposalRejected,
    Proposed,
    RaftConfig,
    RaftMachine,
    ReadId,
    ReadReady,
    ReadRejected,
    ReadRequested,
    RestoreSnapshot,
    SaveFailed,
    SendMessage,
    SnapshotTaken,
    Tick,
    collect_write,
    decode_message,
    encode_message,
)
from consensus.storage import Entry, EntryKind, LoadedLog, MemoryLogStore
from orca.errors import StoreFullError
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant

CONFIG = RaftConfig(
    trailing_entries_max=2,
    append_entries_max=4,
    inflight_appends_max=3,
    snapshot_chunk_bytes=24,
    apply_entries_max=3,
)
Letter = tuple[NodeId, NodeId, Message]
_State = list[tuple[LogIndex, bytes]]


class Safety:
    """What the whole group did, and that it was never wrong (figure 3.2)."""

    def __init__(self) -> None:
        self.leaders: dict[Term, NodeId] = {}
        self.applied: dict[LogIndex, Entry] = {}
        self._places: dict[bytes, LogIndex] = {}

    def led(self, node: NodeId, term: Term) -> None:
        """Election safety: one leader a term at most."""
        assert self.leaders.setdefault(term, node) == node, f"{node} and {self.leaders[term]} lead term {term}"

    def carried_out(self, entry: Entry) -> None:
        """State machine safety: what one node applies at an index, all do."""
        first = self.applied.setdefault(entry.index, entry)
        assert first == entry, f"{entry} is applied where another node applied {first}"
        if entry.payload and entry.kind is EntryKind.NORMAL:
            index = self._places.setdefault(entry.payload, entry.index)
            assert index == entry.index, f"{entry.payload!r} was proposed once, and is entry {index} and {entry.index}"

    @property
    def newest(self) -> LogIndex:
        """The newest entry that anybody applied."""
        return max(self.applied, default=LogIndex(0))

    def check_logs(self, members: Iterable["Member"]) -> None:
        """Log matching: where two logs have an entry of one term in one place, all before it are the same."""
        logs = [{entry.index: entry for entry in member.store.load().entries} for member in members]
        for number, one in enumerate(logs):
            for other in logs[:number]:
                common = sorted(one.keys() & other.keys(), reverse=True)
                agrees = False
                for index in common:
                    agrees = agrees or one[index].term == other[index].term
                    assert not agrees or one[index] == other[index], f"{one[index]} and {other[index]} before a match"


class Member:
    """One node: its store, its machine while it runs, and its copy of the state."""

    def __init__(self, node: NodeId, voters: frozenset[NodeId], config: RaftConfig, seed: int) -> None:
        self.node = node
        self.config = config
        self.store = MemoryLogStore()
        self.is_up = False
        self._voters = voters
        self._rng = random.Random(seed)
        self.outranked_by: int | None = None
        self.start()

    def start(self) -> None:
        """A new process on what the last one left."""
        self.store = self.store.crash()
        loaded = self.store.load()
        self.state: _State = _decode(loaded)
        self.applied_index = loaded.snapshot_index
        self.machine = RaftMachine(self.node, self._voters, loaded, self.config, self._rng)
        self.is_up = True

    def stop(self) -> None:
        """The process is killed; only the disk is left."""
        self.is_up = False


def _decode(loaded: LoadedLog) -> _State:
    if loaded.snapshot is None:
        return []
    return msgspec.msgpack.decode(loaded.snapshot.payload, type=list[tuple[LogIndex, bytes]])


class Group:
    """Members n1, n2, ... ; `voters` of them bootstrap the group, the others are blank.

    Letters wait in `post` in the order in which they were sent, until the test delivers, loses or
    repeats them. `cuts` are one-way: (from, to).
    """

    def __init__(
        self, nodes: int = 3, voters: int | None = None, *, seed: int = 1, config: RaftConfig = CONFIG
    ) -> None:
        self.now = Instant(100.0)
        self.config = config
        self.safety = Safety()
        ids = [NodeId(f"n{number}") for number in range(1, nodes + 1)]
        first = frozenset(ids[: nodes if voters is None else voters])
        self.members = {
            node: Member(node, first if node in first else frozenset(), config, seed * 1000 + number)
            for number, node in enumerate(ids)
        }
        self.post: list[Letter] = []
        self.cuts: dict[tuple[NodeId, NodeId], None] = {}
        self.proposals = 0
        self.payloads: dict[ProposalId, bytes] = {}
        self.accepted: dict[tuple[NodeId, LogIndex], tuple[ProposalId, Term]] = {}
        self.acknowledged: dict[ProposalId, LogIndex] = {}
        self.rejected: dict[ProposalId, ProposalRejected] = {}
        self.lost: dict[ProposalId, None] = {}
        self.reads: dict[ReadId, LogIndex] = {}
        self.read_answers: dict[ReadId, ReadReady | ReadRejected] = {}
        self.notes: list[str] = []
        self.journal: list[tuple[NodeId, Effect]] = []

    def __getitem__(self, name: str) -> RaftMachine:
        return self.members[NodeId(name)].machine

    # Steps.

    def step(self, name: str, event: Event, crash_before: int | None = None) -> list[Effect]:
        """Hand `event` to a running node and perform what comes of it, or only its first part."""
        member = self.members[NodeId(name)]
        assert member.is_up, f"{name} is down"
        effects = member.machine.step(event, self.now)
        if not self._perform(member, effects, crash_before):
            member.stop()
            return effects
        member.machine.check_invariants()
        self._check(member)
        return effects

    def _perform(self, member: Member, effects: Sequence[Effect], crash_before: int | None) -> bool:
        before, write, after = collect_write(effects)
        done = 0
        for message in before:
            if done == crash_before:
                return False
            self._perform_one(member, message)
            done += 1
        if write is not None:
            if done == crash_before:
                return False
            try:
                member.store.write(write)
            except StoreFullError as error:
                after = member.machine.step(SaveFailed(detail=error.message), self.now)
            done += 1
        for effect in after:
            if done == crash_before:
                return False
            self._perform_one(member, effect)
            done += 1
        return True

    def _perform_one(self, member: Member, effect: Effect) -> None:
        node = member.node
        self.journal.append((node, effect))
        match effect:
            case SendMessage(to=to, message=message):
                self.post.append((node, to, message))
            case LeaderChanged(term=term, leader=leader) if leader == node:
                self.safety.led(node, term)
            case Apply(entries=entries):
                for entry in entries:
                    self._apply(member, entry)
            case RestoreSnapshot(snapshot=snapshot):
                member.state = msgspec.msgpack.decode(snapshot.payload, type=list[tuple[LogIndex, bytes]])
                member.applied_index = snapshot.meta.last_index
            case Outranked(epoch=epoch):
                member.outranked_by = epoch
            case Noted(message=message):
                self.notes.append(f"{node}: {message}")
            case _:
                self._take_answer(node, effect)

    def _take_answer(self, node: NodeId, effect: Effect) -> None:
        match effect:
            case Accepted(proposal_id=proposal_id, term=term, index=index):
                self.accepted[node, index] = (proposal_id, term)
            case ProposalRejected(proposal_id=proposal_id):
                self.rejected[proposal_id] = effect
            case ProposalLost(proposal_id=proposal_id):
                self.lost[proposal_id] = None
            case ReadReady(read_id=read_id, index=index):
                assert index >= self.reads[read_id], f"read {read_id} misses what was applied before it was asked"
                self.read_answers[read_id] = effect
            case ReadRejected(read_id=read_id):
                self.read_answers[read_id] = effect
            case _:
                pass

    def _apply(self, member: Member, entry: Entry) -> None:
        assert entry.index == member.applied_index + 1, f"{member.node} applies {entry.index} out of order"
        member.applied_index = entry.index
        self.safety.carried_out(entry)
        if entry.payload and entry.kind is EntryKind.NORMAL:
            member.state.append((entry.index, entry.payload))
        proposal_id, term = self.accepted.pop((member.node, entry.index), (None, None))
        if proposal_id is not None and term == entry.term:
            assert entry.kind is EntryKind.MEMBERSHIP or self.payloads[proposal_id] == entry.payload
            self.acknowledged[proposal_id] = entry.index

    def _check(self, member: Member) -> None:
        loaded, machine = member.store.load(), member.machine
        assert (machine.last_index, machine.snapshot_index) == (loaded.last_index, loaded.snapshot_index)
        assert (machine.term, machine.epoch) == (loaded.hard_state.term, loaded.hard_state.epoch)
        assert machine.applied_index == member.applied_index
        if machine.is_leader:
            self._check_completeness(machine)

    def _check_completeness(self, machine: RaftMachine) -> None:
        """Leader completeness: who leads the newest term has all that was ever applied."""
        if machine.term == max(self.safety.leaders, default=0):
            assert machine.last_index >= self.safety.newest, f"{machine.node} leads without entry {self.safety.newest}"

    # What a test asks for.

    def propose(self, name: str, payload: bytes = b"", crash_before: int | None = None) -> ProposalId:
        """A proposal at `name`; its payload is unique when none is given."""
        proposal = self.new_proposal(payload)
        self.step(name, proposal, crash_before)
        return proposal.proposal_id

    def new_proposal(self, payload: bytes = b"") -> Proposed:
        """The event of a proposal, for who proposes several at once."""
        self.proposals += 1
        proposal_id = ProposalId(self.proposals)
        self.payloads[proposal_id] = payload or b"p%d" % self.proposals
        return Proposed(proposal_id=proposal_id, payload=self.payloads[proposal_id])

    def change(self, name: str, change: object) -> ProposalId:
        """A change of the group, proposed at `name`."""
        self.proposals += 1
        proposal_id = ProposalId(self.proposals)
        self.step(name, MembershipProposed(proposal_id=proposal_id, change=change))  # type: ignore[arg-type]
        return proposal_id

    def read(self, name: str) -> ReadId:
        """A linearizable read at `name`."""
        read_id = ReadId(len(self.reads) + 1)
        self.reads[read_id] = self.safety.newest
        self.step(name, ReadRequested(read_id=read_id))
        return read_id

    def compact(self, name: str) -> None:
        """Let `name` replace its log by a snapshot."""
        member = self.members[NodeId(name)]
        payload = msgspec.msgpack.encode(member.state)
        self.step(name, SnapshotTaken(upto=member.applied_index, payload=payload))

    def kill(self, *names: str) -> None:
        """Kill processes; what is on its way to them is lost when it arrives."""
        for name in names:
            self.members[NodeId(name)].stop()

    def restart(self, *names: str) -> None:
        """Start them again."""
        for name in names:
            self.members[NodeId(name)].start()

    def isolate(self, *names: str) -> None:
        """Cut these off from all others, both ways."""
        for name in names:
            for other in self.members:
                if other not in names:
                    self.cuts[NodeId(name), other] = self.cuts[other, NodeId(name)] = None

    def heal(self) -> None:
        """All links work again."""
        self.cuts.clear()

    # The network and the clock.

    def deliver(self, position: int = 0, *, keep: bool = False) -> None:
        """Deliver the letter at `position`, through the codec; `keep` delivers it once more later."""
        letter = self.post[position] if keep else self.post.pop(position)
        sender, to, message = letter
        if (sender, to) in self.cuts or to not in self.members or not self.members[to].is_up:
            return
        self.step(to, MessageReceived(sender=sender, message=decode_message(encode_message(message))))

    def settle(self) -> None:
        """Deliver everything, and what that causes, in order."""
        for _ in range(20_000):
            if not self.post:
                return
            self.deliver()
        raise AssertionError("the nodes never stop talking")

    def up(self) -> Iterator[Member]:
        """The nodes that run."""
        return (member for member in self.members.values() if member.is_up)

    def tick(self, name: str) -> None:
        """Let the deadline of `name` come, and nobody else's."""
        deadline = self[name].deadline()
        assert deadline is not None, f"{name} waits for nothing"
        self.now = max(self.now, deadline)
        self.step(name, Tick())

    def run(self, seconds: float) -> None:
        """Time passes on a network that loses nothing."""
        end = self.now + seconds
        while True:
            self.settle()
            due = [(d, m.node) for m in self.up() if (d := m.machine.deadline()) is not None]
            if not due or min(due)[0] > end:
                break
            self.now = max(self.now, min(due)[0])
            self.step(min(due)[1], Tick())
        self.now = Instant(end)

    def elect(self, name: str) -> None:
        """Make `name` leader by letting its timer end first, once nobody hears a leader any more."""
        self.now = Instant(self.now + self.config.election_timeout_s)
        self.tick(name)
        self.settle()
        assert self[name].is_leader, f"{name} was not elected: {self.notes}"

    @property
    def leader(self) -> str:
        """Who leads the newest term that anybody who runs leads."""
        leaders = [(m.machine.term, m.node) for m in self.up() if m.machine.is_leader]
        assert leaders, "nobody leads"
        return max(leaders)[1]

    def changes(self) -> list[MembershipChanged]:
        """What was said of the group so far."""
        return [effect for _, effect in self.journal if isinstance(effect, MembershipChanged)]
