"""All parts of trust of one node, put together for the agent."""

import base64
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from consensus.driver import ReplicaDriver
from consensus.state.cluster import ClusterState
from consensus.state.commands import AdmitNode
from node.addresses import split_host_port
from node.bell import Bell
from node.group.keeper import GroupKeeper
from node.membership import Membership
from node.membership.kept import KeptGossip
from node.mesh.driver import Mesh, MeshAddress
from node.store.environment import Environment
from node.store.identity import Identity, read_identity, start_identity
from node.trust.authority import key_fingerprint
from node.trust.control import TrustControl
from node.trust.credentials import NodeCredentials
from node.trust.data_keys import DataKeys
from node.trust.founding import found, found_locally
from node.trust.gossip_keys import GOSSIP_KEY_BYTES
from node.trust.issuing import Issuer
from node.trust.joining import JoinDesk
from node.trust.keepers import TrustKeeper
from node.trust.kept import KeptTrust, NodeKeys, OwnTrust
from node.trust.messages import PEERS_MAX, GossipKeys, PeerAddress
from node.trust.removal import Removal
from node.trust.service import TrustService
from orca.config import NodeConfig
from orca.errors import ForbiddenError
from orca.model.ids import NodeId
from orca.model.units import WallMs
from orca.model.view import Observation
from orca.sources import Clock, IdSource


class StartedTrust:
    """What a node is and may show, before anything of it runs: identity, keys, certificate."""

    def __init__(self, config: NodeConfig, environment: Environment, clock: Clock, ids: IdSource, name: str) -> None:
        """Read what is kept; found a cluster where nothing is. Blocks.

        Raises ForbiddenError for a node that has left its cluster, or was never let into it, StoreCorruptError.
        """
        self.kept = KeptTrust(environment)
        present = read_identity(environment)
        self.keys: NodeKeys = self.kept.start_keys(ids, None if present is None else present.node)
        self.identity: Identity = start_identity(environment, ids, name, node=self.keys.node)
        own = self.kept.own()
        if own is None and self.identity.is_founder:
            _make_gossip_key(config, KeptGossip(environment))
            own = found_locally(self.kept, self.identity.cluster, self.keys, clock)
        if own is None or own.has_left:
            raise _outside(environment.data_path, self.identity, has_left=own is not None)
        self.own: OwnTrust = own

    @property
    def seeds(self) -> tuple[str, ...]:
        """Where other members of the gossip were when this node joined."""
        return tuple(peer.gossip for peer in self.own.peers if peer.gossip)


def _make_gossip_key(config: NodeConfig, kept: KeptGossip) -> None:
    if config.gossip.encrypt and not kept.keys():
        key = config.gossip.key
        kept.keep_keys((base64.b64decode(key) if key else os.urandom(GOSSIP_KEY_BYTES),))


def _outside(data_path: Path, identity: Identity, *, has_left: bool) -> ForbiddenError:
    why = "has left it" if has_left else "holds no certificate of it"
    return ForbiddenError(
        f"the node of {data_path.parent.parent} ({identity.node}) belonged to cluster {identity.cluster} and {why}",
        hint="join again: `orca token create` on a node of the cluster, then `orca join PEER` here; "
        "or start with an empty directory (--data-dir)",
    )


class Trust:
    """The parts; `connect` gives them the rest of the node, before anything runs."""

    def __init__(self, started: StartedTrust, clock: Clock, ids: IdSource, state: Callable[[], ClusterState]) -> None:
        self.started = started
        self._clock = clock
        self._ids = ids
        self._state = state
        cluster = started.identity.cluster
        self.data_keys = DataKeys(cluster, started.keys, state)
        self.removal = Removal()
        self.credentials = NodeCredentials(
            cluster,
            started.keys,
            started.own,
            state=state,
            wall=clock.wall,
            is_current=self._is_current,
        )
        self.keeper: TrustKeeper
        self.service: TrustService
        self.desk: JoinDesk
        self._replica: ReplicaDriver
        self._membership: Membership

    def _is_current(self) -> bool:
        return self.keeper.is_current()

    def belongs(self, node: NodeId) -> bool:
        """Whether `node` is of the cluster, as far as this node knows; before it knows anything everybody may be."""
        nodes = self._state().nodes
        return not nodes or node in nodes

    def removed_at(self, node: NodeId) -> WallMs | None:
        """When `node` was taken out of the cluster; None if it is not, or is in it again."""
        state = self._state()
        gone = state.revoked.get(node) if node not in state.nodes else None
        return None if gone is None else gone.at_ms

    def address_of(self, node: NodeId) -> MeshAddress | None:
        """Where the mesh of `node` was last said to listen, by itself or in the answer to the join."""
        record = self._state().nodes.get(node)
        told = next((one.mesh for one in self.started.own.peers if one.node == node), "")
        address = split_host_port((record.addresses.mesh if record is not None else "") or told)
        return MeshAddress(*address) if address is not None and address[1] else None

    def connect(
        self,
        replica: ReplicaDriver,
        mesh: Mesh,
        membership: Membership,
        group: GroupKeeper,
        *,
        others: Callable[[], Iterable[NodeId]],
        fed_age_s: Callable[[], float],
        decided: Bell,
    ) -> None:
        """Make what needs the rest of the node."""
        self._replica, self._membership = replica, membership
        issuer = Issuer(self.credentials.cluster, self.data_keys, replica, self._clock, self._ids)
        self.service = TrustService(
            self.started.keys.node,
            mesh,
            replica,
            issuer,
            group,
            self._clock,
            self._ids,
            gossip_keys=self._gossip_keys,
            others=lambda: self._reachable(others),
        )
        self.desk = JoinDesk(
            self.credentials,
            self.data_keys,
            issuer,
            replica,
            self._clock,
            gossip_keys=self._gossip_keys,
            peers=lambda: self._peers(others),
        )
        self.keeper = TrustKeeper(
            kept=self.started.kept,
            credentials=self.credentials,
            data_keys=self.data_keys,
            issuer=issuer,
            service=self.service,
            replica=replica,
            mesh=mesh,
            membership=membership,
            clock=self._clock,
            ids=self._ids,
            others=others,
            fed_age_s=fed_age_s,
            decided=decided,
        )
        membership.key_ledger = self.keeper.gossip

    def control(
        self,
        observation: Callable[[], Observation],
        mesh_address: Callable[[], str],
        stop: Callable[[], None],
    ) -> TrustControl:
        """What people can do about it."""
        return TrustControl(
            self.credentials,
            self.started.kept,
            self.data_keys,
            self.service,
            self._replica,
            self._clock,
            self._ids,
            removal=self.removal,
            observation=observation,
            mesh_address=mesh_address,
            leave_gossip=self._membership.leave,
            plain_agents=self._membership.plain_agents,
            stop=stop,
        )

    async def found(self, introduction: AdmitNode) -> None:
        """Put what a founder made into the state; returns at once for any other node."""
        started = self.started
        await found(started.kept, started.own, started.keys, self.data_keys, self._replica, self._clock, introduction)

    @property
    def key_fingerprint(self) -> str:
        """How the state names this node's key."""
        return key_fingerprint(self.started.keys.tls_key)

    def _gossip_keys(self) -> GossipKeys:
        return self.keeper.gossip.offered

    def _reachable(self, others: Callable[[], Iterable[NodeId]]) -> list[NodeId]:
        """Those that gossip knows to live; when it knows none, all that there are: its key may have changed."""
        own = self.started.keys.node
        return list(others()) or [node for node in self._state().nodes if node != own]

    def _peers(self, others: Callable[[], Iterable[NodeId]]) -> tuple[PeerAddress, ...]:
        """Where a new node finds the cluster: this node first."""
        own = self.started.keys.node
        nodes = self._state().nodes
        chosen = [own, *(node for node in others() if node != own)][:PEERS_MAX]
        return tuple(
            PeerAddress(node=node, mesh=nodes[node].addresses.mesh, gossip=nodes[node].addresses.gossip)
            for node in chosen
            if node in nodes
        )
