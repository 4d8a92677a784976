"""What a node says of itself to the doctor, and the ways that it knows to the others."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from consensus.driver import ReplicaDriver
from consensus.state.cluster import ClusterState
from gossip.driver import split_host_port
from gossip.messages import Address
from node.addresses import join_host_port
from node.doctor.examine import Doctor, Way
from node.membership import Membership
from node.mesh.driver import Mesh, MeshAddress
from node.store.environment import Environment
from node.trust.credentials import NodeCredentials
from orca.config import GOSSIP_PORT
from orca.model.doctor import DiskView, NodeReport
from orca.model.ids import NodeId
from orca.model.node import NodeFacts
from orca.model.units import WallMs
from orca.model.view import MemberView
from orca.sources import Clock
from orca.version import VERSION


class OwnReport:
    """Made anew for each question. `facts` are those of this moment."""

    def __init__(
        self,
        environment: Environment,
        data_path: Path,
        credentials: NodeCredentials,
        membership: Membership,
        *,
        facts: Callable[[], NodeFacts],
    ) -> None:
        self._environment = environment
        self._data_path = data_path
        self._credentials = credentials
        self._facts = facts
        self._membership = membership

    def make(self) -> NodeReport:
        """The report, without links. Blocks on the disk."""
        facts, usage = self._facts(), self._environment.usage()
        life = self._credentials.lifetime()
        disk = shutil.disk_usage(self._data_path)
        return NodeReport(
            node=facts.id,
            name=facts.name,
            version=VERSION,
            at_ms=WallMs(0),
            runtimes=facts.runtimes,
            disks=(DiskView(path=str(self._data_path), free_bytes=disk.free, total_bytes=disk.total),),
            store_bytes=usage.used_bytes,
            store_bytes_max=usage.limit_bytes,
            certificate_starts_at_ms=life.not_before_ms,
            certificate_ends_at_ms=life.not_after_ms,
            is_gossip_sealed=self._membership.is_delegated or self._membership.is_sealed,
        )


def ways_to_others(
    own: NodeId,
    state: ClusterState,
    members: Iterable[MemberView],
    mesh_address: Callable[[NodeId], MeshAddress | None],
) -> list[Way]:
    """Every other node of the cluster, whether it lives or not."""
    seen = {one.id: one for one in members if one.id is not None}
    found = []
    for node, record in sorted(state.nodes.items()):
        if node == own:
            continue
        member, mesh = seen.get(node), mesh_address(node)
        text = record.addresses.gossip if member is None else member.address
        found.append(
            Way(
                node=node,
                name=record.name,
                gossip=Address(*split_host_port(text, GOSSIP_PORT)) if text else None,
                mesh="" if mesh is None else join_host_port(mesh.host, mesh.port),
                heard_age_ms=None if member is None else _heard_age_ms(member),
            )
        )
    return found


def make_doctor(mesh: Mesh, clock: Clock, replica: ReplicaDriver, membership: Membership, own: OwnReport) -> Doctor:
    """The doctor of this node."""

    def ways() -> list[Way]:
        found = ways_to_others(mesh.node, replica.state, membership.members(), membership.mesh_address)
        if not membership.is_delegated:
            return found
        return [msgspec.structs.replace(way, gossip=None) for way in found]

    return Doctor(mesh, clock, ways=ways, codec=membership.codec, own=own.make)


def _heard_age_ms(member: MemberView) -> int | None:
    """Of a node that went and is not probed any more: for how long it has been gone."""
    return member.state_age_ms if member.heard_age_ms is None and member.state.is_gone else member.heard_age_ms
