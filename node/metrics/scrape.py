"""A scrape of one node."""

from functools import partial

import trio

from consensus.driver import ReplicaDriver
from node.beliefs import BeliefTable
from node.control import Control
from node.mesh.driver import Mesh
from node.metrics.snapshot import Sources, take
from node.proxy.server import ProxyServer
from node.store.environment import Environment
from orca.model.view import GossipReply, NodesReply
from orca.version import VERSION


class NodeMetrics:
    """Answers scrapes; loads what writes them with the first."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def scrape(self) -> tuple[bytes, str]:
        """The text, and its media type. Others have their turns meanwhile."""
        snapshot = await take(self._sources)
        return await trio.to_thread.run_sync(_expose, snapshot)


def _expose(snapshot: object) -> tuple[bytes, str]:
    from node.metrics import exposition
    from node.metrics.snapshot import Snapshot

    assert isinstance(snapshot, Snapshot), "a scrape exposes a snapshot"
    return exposition.expose(snapshot), exposition.MEDIA


def metrics_of(
    control: Control,
    name: str,
    replica: ReplicaDriver,
    beliefs: BeliefTable,
    proxy: ProxyServer,
    mesh: Mesh,
    environment: Environment,
) -> NodeMetrics:
    """The metrics of the node that `control` is the door to."""

    def members() -> NodesReply:
        found = control.membership
        return NodesReply(observation=control.observation(), members=found.members(), health_score=found.health_score)

    return NodeMetrics(
        Sources(
            version=VERSION,
            name=name,
            replica=replica,
            beliefs=beliefs,
            quorum=lambda: control.quorum.describe(control.observation()),
            members=members,
            gossip=lambda: control.membership.describe(partial(GossipReply, observation=control.observation())),
            proxy=proxy.stats,
            traffic=proxy.services,
            mesh=mesh,
            environment=environment,
        )
    )
