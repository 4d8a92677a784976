"""A cluster in memory as `node.upkeep` sees a replica: commands are applied, and a scheduler may be let run."""

import itertools

from consensus.scheduler.reconcile import Situation, look
from consensus.state.cluster import Outcome
from consensus.state.commands import AdmitNode, Command
from node.alert_desk import AlertDesk
from node.channel_desk import ChannelDesk
from node.locks import Locks
from node.upkeep import Upkeep
from orca.model.ids import NodeId, StateRevision
from orca.model.units import Instant, WallMs
from orca.model.view import Observation
from tests.consensus.scheduler.fake_world import World


class Admitted(World):
    """A `World` whose nodes were admitted, with the door of people to it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for node in self.nodes:
            self.apply(AdmitNode(node=node.id, name=node.name, at_ms=WallMs(self.at_ms)))
        self._fresh = itertools.count()
        self.upkeep = Upkeep(self, self, self, self)
        self.locks = Locks(self, self, self, self)
        self.alerts = AlertDesk(self, self, self, self)
        self.channels = ChannelDesk(NodeId("n-a"), "c-test", self, self, self, self)

    def now(self) -> Instant:
        return Instant(self.at_ms / 1000)

    def wall(self) -> WallMs:
        return WallMs(self.at_ms)

    def fresh(self) -> str:
        return f"asked-{next(self._fresh)}"

    def observation(self) -> Observation:
        return Observation(
            observer=NodeId("n-a"), at_ms=WallMs(self.at_ms), state_revision=StateRevision(self.state.revision)
        )

    def situation(self) -> Situation:
        return look(self.state, self.beliefs, WallMs(self.at_ms), WallMs(self.at_ms))

    async def propose(self, command: Command) -> Outcome:
        return self.apply(command)

    def lose(self, name: str) -> None:
        """The node called `name` is not heard of any more."""
        self.departed[NodeId(f"n-{name}")] = WallMs(self.at_ms)
        self.nodes = tuple(one for one in self.nodes if one.name != name)
