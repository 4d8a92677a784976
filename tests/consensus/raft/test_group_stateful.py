"""Several machines under loss, duplication, reordering, cuts, crashes between effects, full disks and changes."""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consensus.raft import (
    AddLearner,
    MessageReceived,
    MessagesReceived,
    PeerUnreachable,
    Promote,
    Remove,
    Tick,
    TransferRequested,
)
from orca.model.ids import NodeId
from orca.model.units import Instant
from tests.consensus.raft.group import Group

NODES = 5
POST_MAX = 400
name = st.integers(1, NODES).map(lambda number: f"n{number}")
someone = st.just("leader") | st.just("leader") | name
crash = st.sampled_from([None, None, None, None, 0, 1, 2, 3, 4])


class GroupStory(RuleBasedStateMachine):
    """Any of five nodes, of which some vote at first; the network does what it likes."""

    @initialize(voters=st.integers(1, 4), seed=st.integers(0, 1000), seconds=st.sampled_from([0.0, 3.0, 3.0]))
    def begin(self, voters: int, seed: int, seconds: float) -> None:
        self.group = Group(NODES, voters, seed=seed)
        self.rng = random.Random(seed)
        self.group.run(seconds)

    def is_up(self, node: str) -> bool:
        return self.group.members[NodeId(node)].is_up

    def who(self, name: str) -> str | None:
        """A running node by its name, or who leads; None for one that is down."""
        if name == "leader":
            leaders = [(m.machine.term, m.node) for m in self.group.up() if m.machine.is_leader]
            return max(leaders)[1] if leaders else None
        return name if self.is_up(name) else None

    @rule(node=name, wait_s=st.floats(0, 2), crash_before=crash)
    def time_passes(self, node: str, wait_s: float, crash_before: int | None) -> None:
        self.group.now = Instant(self.group.now + wait_s)
        if self.is_up(node):
            self.group.step(node, Tick(), crash_before)

    @rule()
    def network_works(self) -> None:
        self.group.run(1.0)

    @rule(seconds=st.floats(0.1, 4), loss=st.sampled_from([0.0, 0.0, 0.1, 0.4]))
    def network_works_somewhat(self, seconds: float, loss: float) -> None:
        """Timers run, letters arrive in any order, some twice, some never, often several in one step."""
        end = self.group.now + seconds
        for _ in range(300):
            if self.group.post and self.rng.random() < 0.9:
                self.move_post(loss)
                continue
            due = [(d, m.node) for m in self.group.up() if (d := m.machine.deadline()) is not None]
            if not due or min(due)[0] > end:
                break
            self.group.now = max(self.group.now, min(due)[0])
            self.group.step(min(due)[1], Tick())

    def move_post(self, loss: float) -> None:
        group = self.group
        position = 0 if self.rng.random() < 0.7 else self.rng.randrange(len(group.post))
        luck = self.rng.random()
        if luck < loss:
            group.post.pop(position)
        elif luck < 0.3:
            self.deliver_batch(group.post[position][1])
        else:
            group.deliver(position, keep=self.rng.random() < 0.05)

    def deliver_batch(self, to: NodeId) -> None:
        """All that waits for one node, in one step."""
        group = self.group
        letters = [letter for letter in group.post if letter[1] == to]
        group.post = [letter for letter in group.post if letter[1] != to]
        received = [MessageReceived(sender=a, message=m) for a, b, m in letters if (a, b) not in group.cuts]
        if received and self.is_up(to):
            group.step(to, MessagesReceived(messages=tuple(received)))

    @rule(who=someone, count=st.integers(1, 9), crash_before=crash)
    def propose(self, who: str, count: int, crash_before: int | None) -> None:
        for number in range(count):
            if node := self.who(who):
                self.group.propose(node, crash_before=crash_before if number == count - 1 else None)

    @rule(who=someone)
    def read(self, who: str) -> None:
        if node := self.who(who):
            self.group.read(node)

    @rule(who=someone, other=name, removes=st.booleans())
    def change(self, who: str, other: str, removes: bool) -> None:
        node = self.who(who)
        if node is None:
            return
        group = self.group[node].membership
        kind = Remove if removes and other in group.members else Promote if other in group.learners else AddLearner
        self.group.change(node, kind(node=NodeId(other)))

    @rule(who=someone, to=st.none() | name)
    def transfer(self, who: str, to: str | None) -> None:
        if node := self.who(who):
            self.group.step(node, TransferRequested(to=None if to is None else NodeId(to)))

    @rule(who=someone)
    def compact(self, who: str) -> None:
        member = self.group.members[NodeId(self.who(who) or "n1")]
        if member.is_up and member.applied_index > member.machine.snapshot_index:
            self.group.compact(member.node)

    @rule(node=name, other=name)
    def link_is_said_to_be_down(self, node: str, other: str) -> None:
        if self.is_up(node):
            self.group.step(node, PeerUnreachable(node=NodeId(other)))

    @rule(node=name)
    def crash_or_start(self, node: str) -> None:
        if self.is_up(node):
            self.group.kill(node)
        else:
            self.group.restart(node)

    @rule()
    def start_all(self) -> None:
        self.group.restart(*(member.node for member in self.group.members.values() if not member.is_up))

    @rule(node=name, spare=st.integers(0, 60))
    def disk_fills(self, node: str, spare: int) -> None:
        store = self.group.members[NodeId(node)].store
        if self.is_up(node):
            loaded = store.load()
            used = sum(len(entry.payload) for entry in loaded.entries)
            store.bytes_max = used + (len(loaded.snapshot.payload) if loaded.snapshot else 0) + spare

    @rule()
    def disks_empty(self) -> None:
        for member in self.group.members.values():
            member.store.bytes_max = None

    @rule(node=name)
    def cut_off(self, node: str) -> None:
        self.group.isolate(node)

    @rule(one=name, other=name)
    def cut_one_way(self, one: str, other: str) -> None:
        self.group.cuts[NodeId(one), NodeId(other)] = None

    @rule()
    def heal(self) -> None:
        self.group.heal()

    @precondition(lambda self: len(self.group.post) > POST_MAX)
    @rule()
    def old_post_is_lost(self) -> None:
        del self.group.post[:-50]

    @invariant()
    def logs_match(self) -> None:
        self.group.safety.check_logs(self.group.up())

    @invariant()
    def nobody_took_what_was_rejected(self) -> None:
        if self.group.rejected:
            applied = {entry.payload for entry in self.group.safety.applied.values()}
            refused = {self.group.payloads[one] for one in self.group.rejected if one in self.group.payloads}
            assert not applied & refused

    def teardown(self) -> None:
        """Everything heals: the group elects a leader, and nothing that was acknowledged is missing."""
        if not hasattr(self, "group"):
            return
        group = self.group
        group.heal()
        self.disks_empty()
        self.start_all()
        group.post.clear()
        group.run(12)
        leader = group.leader
        before = group.propose(leader)
        group.run(2)
        assert before in group.acknowledged, f"the healed group takes nothing: {group.notes[-5:]}"
        payloads = dict(group.members[NodeId(leader)].state)
        for proposal_id, index in group.acknowledged.items():
            if proposal_id in group.payloads:
                assert payloads[index] == group.payloads[proposal_id], "an acknowledged write is gone"
        for node in group[leader].membership.voters:
            assert group.members[node].state == group.members[NodeId(leader)].state


GroupStory.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_groups_are_safe_and_heal = GroupStory.TestCase
