"""What can befall a group: letters out of order, twice or never, cuts, crashes between effects, full disks."""

import random

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

POST_MAX = 400


class Moves:
    """One move a method; `who` is a node's name, or "leader" for whoever leads the newest term."""

    def __init__(self, group: Group, rng: random.Random) -> None:
        self.group = group
        self.rng = rng

    def is_up(self, node: str) -> bool:
        return self.group.members[NodeId(node)].is_up

    def who(self, name: str) -> str | None:
        """A running node by its name, or who leads; None for one that is down."""
        if name == "leader":
            leaders = [(m.machine.term, m.node) for m in self.group.up() if m.machine.is_leader]
            return max(leaders)[1] if leaders else None
        return name if self.is_up(name) else None

    def time_passes(self, node: str, wait_s: float, crash_before: int | None) -> None:
        self.group.now = Instant(self.group.now + wait_s)
        if self.is_up(node):
            self.group.step(node, Tick(), crash_before)

    def network_works_somewhat(self, seconds: float, loss: float) -> None:
        """Timers run, letters arrive in any order, some twice, some never, often several in one step."""
        end = self.group.now + seconds
        for _ in range(300):
            if self.group.post and self.rng.random() < 0.9:
                self._move_post(loss)
                continue
            due = [(d, m.node) for m in self.group.up() if (d := m.machine.deadline()) is not None]
            if not due or min(due)[0] > end:
                break
            self.group.now = max(self.group.now, min(due)[0])
            self.group.step(min(due)[1], Tick())

    def _move_post(self, loss: float) -> None:
        group = self.group
        position = 0 if self.rng.random() < 0.7 else self.rng.randrange(len(group.post))
        luck = self.rng.random()
        if luck < loss:
            group.post.pop(position)
        elif luck < 0.3:
            self._deliver_batch(group.post[position][1])
        else:
            group.deliver(position, keep=self.rng.random() < 0.05)

    def _deliver_batch(self, to: NodeId) -> None:
        """All that waits for one node, in one step."""
        group = self.group
        letters = [letter for letter in group.post if letter[1] == to]
        group.post = [letter for letter in group.post if letter[1] != to]
        received = [MessageReceived(sender=a, message=m) for a, b, m in letters if (a, b) not in group.cuts]
        if received and self.is_up(to):
            group.step(to, MessagesReceived(messages=tuple(received)))

    def old_post_is_lost(self) -> None:
        del self.group.post[:-50]

    def propose(self, who: str, count: int, crash_before: int | None) -> None:
        for number in range(count):
            if node := self.who(who):
                self.group.propose(node, crash_before=crash_before if number == count - 1 else None)

    def read(self, who: str) -> None:
        if node := self.who(who):
            self.group.read(node)

    def change(self, who: str, other: str, removes: bool) -> None:
        node = self.who(who)
        if node is None:
            return
        group = self.group[node].membership
        kind = Remove if removes and other in group.members else Promote if other in group.learners else AddLearner
        self.group.change(node, kind(node=NodeId(other)))

    def transfer(self, who: str, to: str | None) -> None:
        if node := self.who(who):
            self.group.step(node, TransferRequested(to=None if to is None else NodeId(to)))

    def compact(self, who: str) -> None:
        member = self.group.members[NodeId(self.who(who) or "n1")]
        if member.is_up and member.applied_index > member.machine.snapshot_index:
            self.group.compact(member.node)

    def link_is_said_to_be_down(self, node: str, other: str) -> None:
        if self.is_up(node):
            self.group.step(node, PeerUnreachable(node=NodeId(other)))

    def crash_or_start(self, node: str) -> None:
        if self.is_up(node):
            self.group.kill(node)
        else:
            self.group.restart(node)

    def start_all(self) -> None:
        self.group.restart(*(member.node for member in self.group.members.values() if not member.is_up))

    def disk_fills(self, node: str, spare: int) -> None:
        store = self.group.members[NodeId(node)].store
        if self.is_up(node):
            loaded = store.load()
            used = sum(len(entry.payload) for entry in loaded.entries)
            store.bytes_max = used + (len(loaded.snapshot.payload) if loaded.snapshot else 0) + spare

    def disks_empty(self) -> None:
        for member in self.group.members.values():
            member.store.bytes_max = None

    def cut_off(self, node: str) -> None:
        self.group.isolate(node)

    def cut_one_way(self, one: str, other: str) -> None:
        self.group.cuts[NodeId(one), NodeId(other)] = None

    def check(self) -> None:
        """Logs match, and nobody carried out what was rejected."""
        group = self.group
        group.safety.check_logs(group.up())
        if group.rejected:
            applied = {entry.payload for entry in group.safety.applied.values()}
            refused = {group.payloads[one] for one in group.rejected if one in group.payloads}
            assert not applied & refused

    def heal_and_check(self) -> None:
        """Everything heals: the group elects a leader, and nothing that was acknowledged is missing."""
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
