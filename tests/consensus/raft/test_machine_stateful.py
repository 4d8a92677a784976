import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consensus.raft import (
    Accepted,
    Apply,
    Effect,
    LeaderChanged,
    ProposalId,
    ProposalRejected,
    Proposed,
    ProposedMany,
    RaftConfig,
    RaftMachine,
    ReadId,
    ReadReady,
    ReadRequested,
    SaveFailed,
    SnapshotTaken,
    Tick,
    collect_write,
)
from consensus.storage import Entry, MemoryLogStore
from orca.errors import StoreFullError
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant

NODE = NodeId("n-a")


class SingleVoterStory(RuleBasedStateMachine):
    """A driver that proposes, compacts, runs out of disk and crashes at any point.

    The replicated state is the list of all payloads, so its snapshot is that list.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryLogStore()
        self.rng = random.Random(1)
        self.now = Instant(0.0)
        self.proposals = 0
        self.acknowledged: list[tuple[LogIndex, bytes]] = []
        self.refused: set[bytes] = set()
        self.terms_led: list[Term] = []
        self.start()

    def start(self) -> None:
        """A new process on what the last one left."""
        self.store = self.store.crash()
        loaded = self.store.load()
        self.state: list[bytes] = []
        if loaded.snapshot is not None and loaded.snapshot.payload:
            self.state = loaded.snapshot.payload.split(b",")
        self.applied_index = loaded.snapshot_index
        self.waiting: dict[ProposalId, bytes] = {}
        self.accepted: dict[LogIndex, tuple[ProposalId, Term]] = {}
        self.machine = RaftMachine(
            NODE, frozenset({NODE}), loaded, RaftConfig(apply_entries_max=3, payload_bytes_max=64), self.rng
        )

    def perform(self, effects: list[Effect], crash_before: int | None = None) -> bool:
        """Do all effects, or only `crash_before` of them, the write counting as one; False after a crash."""
        _, write, rest = collect_write(effects)
        if crash_before == 0:
            self.start()
            return False
        if write is not None:
            try:
                self.store.write(write)
            except StoreFullError as error:
                rest = self.machine.step(SaveFailed(detail=error.message), self.now)
        for done, effect in enumerate(rest, start=1):
            if crash_before == done:
                self.start()
                return False
            self.perform_one(effect)
        return True

    def perform_one(self, effect: Effect) -> None:
        match effect:
            case Apply(entries=entries):
                for entry in entries:
                    self.apply(entry)
            case Accepted(proposal_id=proposal_id, term=term, index=index):
                self.accepted[index] = (proposal_id, term)
            case ProposalRejected(proposal_id=proposal_id):
                self.refused.add(self.waiting.pop(proposal_id))
            case LeaderChanged(term=term):
                assert not self.terms_led or term > self.terms_led[-1], "a term was used twice"
                self.terms_led.append(term)
            case _:
                pass

    def apply(self, entry: Entry) -> None:
        assert entry.index == self.applied_index + 1, "applied out of order or twice"
        self.applied_index = entry.index
        if entry.payload:
            self.state.append(entry.payload)
        if entry.index in self.accepted:
            proposal_id, term = self.accepted.pop(entry.index)
            assert term == entry.term
            payload = self.waiting.pop(proposal_id)
            assert payload == entry.payload, "acknowledged another's entry"
            self.acknowledged.append((entry.index, payload))

    def fresh_proposal(self, size: int) -> Proposed:
        self.proposals += 1
        payload = b"%d:" % self.proposals + b"x" * size
        self.waiting[ProposalId(self.proposals)] = payload
        return Proposed(proposal_id=ProposalId(self.proposals), payload=payload)

    @rule(wait_s=st.floats(0, 3), crash_before=st.none() | st.integers(0, 4))
    def tick(self, wait_s: float, crash_before: int | None) -> None:
        self.now = Instant(self.now + wait_s)
        self.perform(self.machine.step(Tick(), self.now), crash_before)

    @rule(sizes=st.lists(st.integers(0, 80), min_size=1, max_size=6), crash_before=st.none() | st.integers(0, 8))
    def propose(self, sizes: list[int], crash_before: int | None) -> None:
        batch = ProposedMany(proposals=tuple(self.fresh_proposal(size) for size in sizes))
        self.perform(self.machine.step(batch, self.now), crash_before)

    @precondition(lambda self: self.machine.applied_index > self.machine.snapshot_index)
    @rule(crash_before=st.none() | st.integers(0, 1))
    def compact(self, crash_before: int | None) -> None:
        taken = SnapshotTaken(upto=self.applied_index, payload=b",".join(self.state))
        self.perform(self.machine.step(taken, self.now), crash_before)

    @rule()
    def read(self) -> None:
        for effect in self.machine.step(ReadRequested(read_id=ReadId(1)), self.now):
            if isinstance(effect, ReadReady):
                assert effect.index >= max((index for index, _ in self.acknowledged), default=0)
                assert self.applied_index >= effect.index

    @rule()
    def crash(self) -> None:
        self.start()

    @rule(spare=st.integers(0, 200))
    def disk_fills(self, spare: int) -> None:
        loaded = self.store.load()
        used = sum(len(entry.payload) for entry in loaded.entries)
        used += len(loaded.snapshot.payload) if loaded.snapshot else 0
        self.store.bytes_max = used + spare

    @rule()
    def disk_empties(self) -> None:
        self.store.bytes_max = None

    @invariant()
    def machine_is_sound_and_agrees_with_the_disk(self) -> None:
        self.machine.check_invariants()
        loaded = self.store.load()
        assert self.machine.last_index == loaded.last_index
        assert self.machine.snapshot_index == loaded.snapshot_index
        assert self.machine.term == loaded.hard_state.term
        assert self.machine.applied_index == self.applied_index

    @invariant()
    def state_has_no_payload_twice_and_none_that_was_refused(self) -> None:
        assert len(set(self.state)) == len(self.state)
        assert not self.refused & set(self.state)

    def teardown(self) -> None:
        self.start()
        self.store.bytes_max = None
        self.perform(self.machine.step(Tick(), self.now))
        kept = [payload for _, payload in self.acknowledged]
        assert [payload for payload in self.state if payload in set(kept)] == kept, "an acknowledged write is gone"


SingleVoterStory.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_single_voter_keeps_what_it_acknowledged = SingleVoterStory.TestCase
