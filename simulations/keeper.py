"""Somebody who changes the group while it works: learners, promotions, removals, and replacements of the dead."""

from collections.abc import Callable

from consensus.raft import AddLearner, MembershipChange, Promote, Remove
from consensus.storage import EntryKind, Membership, decode_membership
from orca.model.ids import NodeId
from simulations.faults import Mood
from simulations.process import Process
from simulations.world import World

_VOTERS_MAX = 7
_NODES_MAX = 12


class Keeper:
    """Asks whoever leads for one change after the other.

    It never takes away what the group needs: in every group that any node knows of, committed or not, the
    voters that can still come back are a quorum. `make` gives a new, empty node that runs.
    """

    def __init__(self, world: World, processes: dict[NodeId, Process], mood: Mood, make: Callable[[], Process]) -> None:
        self.changed = 0
        self._seen: Membership | None = None
        self.killed = 0
        self.replaced = 0
        self._world = world
        self._processes = processes
        self._mood = mood
        self._make = make
        self._chance = world.chance("keeper")
        self._dead: NodeId | None = None
        self._heir: NodeId | None = None
        self._is_over = False

    @property
    def is_idle(self) -> bool:
        """Whether no replacement is under way."""
        return self._dead is None

    def start(self) -> None:
        """Begin."""
        if self._mood.has("change"):
            self._later(self._mood["change"], self._change_something)
        if self._mood.has("kill"):
            self._later(self._mood["kill"], self._kill)
            self._later(0.7, self._replace)

    def stop(self) -> None:
        """Kill and change nothing more, but finish a replacement that was begun."""
        self._is_over = True

    def _later(self, mean_s: float, action: Callable[[], None]) -> None:
        def again() -> None:
            action()
            if not self._is_over or self._dead is not None:
                self._world.after(self._chance.pause_s(mean_s), again)

        self._world.after(self._chance.pause_s(mean_s), again)

    def _leader(self) -> Process | None:
        """Who leads and would take a change at once: one that waits in a queue could be carried out after a kill."""
        leaders = [process for process in self._processes.values() if process.is_leader and process.is_free]
        return max(leaders, key=lambda process: process.machine.term) if leaders else None

    # Replacing the dead.

    def _kill(self) -> None:
        """One voter never comes back."""
        if self._is_over or self._dead is not None or len(self._processes) >= _NODES_MAX:
            return
        groups = self._known_groups()
        victims = [process for process in self._processes.values() if not process.is_gone_for_good]
        victim = self._chance.pick(victims)
        is_voter = any(victim.node in group.voters for group in groups)
        if not is_voter or not all(self._is_viable(group, without=victim.node) for group in groups):
            return
        self._world.note(f"{victim.node} is gone for good")
        self.killed += 1
        self._dead, self._heir = victim.node, None
        victim.is_gone_for_good = True
        victim.crash()

    def _replace(self) -> None:
        """Add a learner, promote it, remove the dead one (DESIGN §5)."""
        leader = self._leader()
        if self._dead is None or leader is None:
            return
        group = leader.machine.membership
        if self._dead not in group.members:
            if self._is_known_to_quorum(group):
                self._dead = None
                self.replaced += 1
            return
        if self._heir is None:
            self._heir = self._make().node
        if self._heir not in group.members:
            leader.change(AddLearner(node=self._heir))
        elif self._heir in group.learners and len(group.voters) < _VOTERS_MAX:
            leader.change(Promote(node=self._heir))
        else:
            leader.change(Remove(node=self._dead))

    # Anything else.

    def _change_something(self) -> None:
        leader = self._leader()
        if leader is not None and leader.machine.membership != self._seen:
            self.changed += self._seen is not None
            self._seen = leader.machine.membership
        if self._is_over or leader is None:
            return
        group = leader.machine.membership
        changes: list[MembershipChange] = []
        strangers = [
            name for name, one in self._processes.items() if name not in group.members and not one.is_gone_for_good
        ]
        if strangers:
            changes.append(AddLearner(node=self._chance.pick(strangers)))
        elif len(self._processes) < _NODES_MAX:
            changes.append(AddLearner(node=self._make().node))
        if group.learners and len(group.voters) < _VOTERS_MAX:
            changes.append(Promote(node=self._chance.pick(group.learners)))
        removable = [name for name in group.members if self._may_remove(group, name)]
        if removable:
            changes.append(Remove(node=self._chance.pick(removable)))
        if changes:
            leader.change(self._chance.pick(changes))

    def _may_remove(self, group: Membership, name: NodeId) -> bool:
        after = Membership(voters=tuple(one for one in group.voters if one != name))
        return name != self._heir and bool(after.voters) and self._is_viable(after)

    def _is_known_to_quorum(self, group: Membership) -> bool:
        knowing = [name for name in group.voters if self._processes[name].membership == group]
        return 2 * len(knowing) > len(group.voters)

    def _known_groups(self) -> list[Membership]:
        """The groups that nodes which can come back may go by: for each the last one committed, and what follows it."""
        groups: list[Membership] = []
        for process in self._processes.values():
            if not process.is_gone_for_good:
                groups += self._groups_of(process)
        return [group for group in groups if group.voters]

    @staticmethod
    def _groups_of(process: Process) -> list[Membership]:
        loaded = process.disk.durable
        snapshot = loaded.snapshot
        first = None if snapshot is None else snapshot.meta.membership
        known = [first or Membership(voters=tuple(sorted(process.voters)))]
        committed = process.machine.commit_index if process.is_up else loaded.snapshot_index
        for entry in loaded.entries:
            if entry.kind is EntryKind.MEMBERSHIP:
                group = decode_membership(entry.payload)
                known = [group] if entry.index <= committed else [*known, group]
        return known if process.membership is None else [*known, process.membership]

    def _is_viable(self, group: Membership, without: NodeId | None = None) -> bool:
        living = [name for name in group.voters if name != without and not self._processes[name].is_gone_for_good]
        return 2 * len(living) > len(group.voters)
