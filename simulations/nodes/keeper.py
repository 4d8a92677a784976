"""The leader's duty of keeping the group right, by the rules of `node.group.keeper`."""

from collections.abc import Callable, Mapping
from typing import Final

from consensus.raft import AddLearner, Promote, Remove
from consensus.subgroup import ChangeKind, SubgroupConfig, next_change
from node.believed import Believed
from node.group.peers import loads_of, make_peers
from node.membership.sighting import Sighting
from orca.model.ids import NodeId
from simulations.nodes.life import Life
from simulations.nodes.replica import ReplicaShell

INTERVAL_S: Final = 1.0


class GroupShell:
    """Looks once a second while its node leads."""

    def __init__(
        self, life: Life, replica: ReplicaShell, beliefs: Believed, seen: Callable[[], Mapping[NodeId, Sighting]]
    ) -> None:
        self._life = life
        self._replica = replica
        self._beliefs = beliefs
        self._seen = seen
        self._config = SubgroupConfig()
        self._leads = False
        self._looks_since = 0.0
        self._learners_since: dict[NodeId, float] = {}

    def start(self) -> None:
        """Begin."""
        self._life.every(INTERVAL_S, self._look)

    def _look(self) -> None:
        replica = self._replica
        led, self._leads = self._leads, replica.is_leader
        if not self._leads:
            return
        if not led:  # what the group looks like to it may be old yet
            self._looks_since = self._life.world.now
            self._learners_since.clear()
            return
        self._change_group()

    def _change_group(self) -> None:
        replica, now = self._replica, self._life.world.now
        peers = make_peers(
            replica.state.nodes,
            self._seen(),
            replica.machine.membership,
            {one.node: one for one in replica.machine.progress()},
            own=replica.node,
            unseen_for_s=now - self._looks_since,
            loads=loads_of(replica.state, self._beliefs.nodes),
            learner_for_s={node: now - since for node, since in self._learners_since.items()},
        )
        change = next_change(peers, replica.node, self._config)
        if change is None:
            return
        match change.kind:
            case ChangeKind.ADD_LEARNER:
                replica.change(AddLearner(node=change.node))
                self._learners_since[change.node] = now
            case ChangeKind.PROMOTE:
                replica.change(Promote(node=change.node))
            case ChangeKind.REMOVE:
                replica.change(Remove(node=change.node))
            case ChangeKind.HAND_OVER:
                replica.transfer(change.node)
