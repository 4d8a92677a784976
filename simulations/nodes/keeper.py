"""The leader's duty of keeping the group right, by the rules of `node.group.keeper`."""

from typing import TYPE_CHECKING, Final

from consensus.raft import AddLearner, Promote, Remove
from consensus.subgroup import ChangeKind, SubgroupConfig, next_change
from node.group.peers import loads_of, make_peers
from orca.model.ids import NodeId

if TYPE_CHECKING:
    from simulations.nodes.node import Session

INTERVAL_S: Final = 1.0


class GroupShell:
    """Looks once a second while its node leads."""

    def __init__(self, session: "Session", config: SubgroupConfig | None = None) -> None:
        self._session = session
        self._config = config or SubgroupConfig()
        self._leads = False
        self._looks_since = 0.0
        self._learners_since: dict[NodeId, float] = {}

    def start(self) -> None:
        """Begin."""
        self._session.life.every(INTERVAL_S, self._look)

    def _look(self) -> None:
        replica = self._session.replica
        led, self._leads = self._leads, replica.is_leader
        if not self._leads:
            return
        if not led:  # what the group looks like to it may be old yet
            self._looks_since = self._session.world.now
            self._learners_since.clear()
            return
        self._change_group()

    def _change_group(self) -> None:
        session, replica, now = self._session, self._session.replica, self._session.world.now
        peers = make_peers(
            replica.state.nodes,
            session.sightings(),
            replica.machine.membership,
            {one.node: one for one in replica.machine.progress()},
            own=session.node,
            unseen_for_s=now - self._looks_since,
            loads=loads_of(replica.state, session.beliefs.nodes),
            learner_for_s={node: now - since for node, since in self._learners_since.items()},
        )
        change = next_change(peers, session.node, self._config)
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
