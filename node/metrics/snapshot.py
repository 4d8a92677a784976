"""What is true of a node at one moment, as numbers."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import trio

from consensus.driver import ReplicaDriver
from consensus.state.cluster import ServiceRecord
from node.beliefs import BeliefTable
from node.mesh.driver import Mesh, MeshCounters, PeerStatus
from node.proxy.latency import ServiceTraffic
from node.proxy.traffic import ProxyStats
from node.store.environment import Environment
from orca.model.allocation import DesiredStatus, Phase
from orca.model.ids import ServiceId, display_name
from orca.model.quorum_view import QuorumReply
from orca.model.view import GossipReply, NodesReply

SERVICES_A_TURN: Final = 100


class ServiceNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """How many copies of a service are wanted, and how those are."""

    name: str
    wanted: int
    ready: int
    restarts: int
    rollout: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a scrape tells."""

    version: str
    node: str
    is_leader: bool
    last_index: int
    services: tuple[ServiceNumbers, ...]
    quorum: QuorumReply
    members: NodesReply
    gossip: GossipReply
    proxy: ProxyStats
    traffic: Mapping[str, ServiceTraffic]
    mesh: MeshCounters
    peers: tuple[PeerStatus, ...]
    store_used_bytes: int
    store_limit_bytes: int
    dropped_messages: int


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Where the numbers come from."""

    version: str
    name: str
    replica: ReplicaDriver
    beliefs: BeliefTable
    quorum: Callable[[], QuorumReply]
    members: Callable[[], NodesReply]
    gossip: Callable[[], GossipReply]
    proxy: Callable[[], ProxyStats]
    traffic: Callable[[], Mapping[ServiceId, ServiceTraffic]]
    mesh: Mesh
    environment: Environment


async def take(sources: Sources) -> Snapshot:
    """The numbers of now; others have their turns while it is taken."""
    replica = sources.replica
    services: list[ServiceNumbers] = []
    for number, record in enumerate(list(replica.state.services.values()), 1):
        services.append(_numbers(sources, record))
        if not number % SERVICES_A_TURN:
            await trio.lowlevel.checkpoint()
    traffic: dict[str, ServiceTraffic] = {}
    for number, (name, one) in enumerate(list(sources.traffic().items()), 1):
        traffic[display_name(name)] = ServiceTraffic(
            answers=[*one.answers], buckets=[*one.buckets], seconds=one.seconds
        )
        if not number % SERVICES_A_TURN:
            await trio.lowlevel.checkpoint()
    store = sources.environment.usage()
    return Snapshot(
        version=sources.version,
        node=sources.name,
        is_leader=replica.is_leader,
        last_index=replica.raft.last_index,
        services=tuple(services),
        quorum=sources.quorum(),
        members=sources.members(),
        gossip=sources.gossip(),
        proxy=sources.proxy(),
        traffic=traffic,
        mesh=msgspec.structs.replace(sources.mesh.counters),
        peers=sources.mesh.peers(),
        store_used_bytes=store.used_bytes,
        store_limit_bytes=store.limit_bytes,
        dropped_messages=replica.dropped_messages,
    )


def _numbers(sources: Sources, record: ServiceRecord) -> ServiceNumbers:
    statuses = [
        sources.beliefs.statuses.get(one.id)
        for one in sources.replica.state.copies.of_service(record.id).values()
        if one.desired is DesiredStatus.RUNNING
    ]
    return ServiceNumbers(
        name=display_name(record.id),
        wanted=record.replicas,
        ready=sum(one is not None and (one.is_ready or one.phase is Phase.COMPLETED) for one in statuses),
        restarts=sum(one.restarts for one in statuses if one is not None),
        rollout=record.rollout.state.value,
    )
