"""A cluster of one member in memory, and what joins it: real keys, real state, a clock that tests set."""

import os
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from consensus.driver import ReplicaDriver
from consensus.state.cluster import ClusterState, Outcome
from consensus.state.commands import AdmitNode, Command, CreateJoinToken, PutDataKey
from node.trust.authority import (
    Authority,
    encode_key,
    key_fingerprint,
    make_authority,
    make_request,
    sign_request,
)
from node.trust.credentials import NodeCredentials
from node.trust.data_keys import DataKeys
from node.trust.issuing import Issuer, listing_of
from node.trust.joining import JoinDesk, JoinOrder
from node.trust.kept import Founding, NodeKeys, OwnTrust, make_keys
from node.trust.messages import GossipKeys, PeerAddress
from orca.model.ids import ClusterId, LogIndex, NodeId, RequestId, TokenId
from orca.model.join_token import JoinToken, encode_random, short_fingerprint
from orca.model.trust import NodeRole
from orca.model.units import Instant, WallMs
from tests.consensus.intent import Cluster, CountingIds, image

CLUSTER = ClusterId("c-test")
NOW_MS = WallMs(1_700_000_000_000)
HOUR_MS = 3_600_000


class SetClock:
    """A clock that stands where a test puts it."""

    def __init__(self, wall_ms: int = NOW_MS) -> None:
        self.wall_ms = wall_ms
        self.now_s = 0.0

    def now(self) -> Instant:
        return Instant(self.now_s)

    def wall(self) -> WallMs:
        return WallMs(self.wall_ms)


class DirectReplica:
    """Applies what is proposed at once; `fail_after` proposals are applied and then not answered."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.proposed: list[Command] = []
        self.lose_answer: Exception | None = None
        self.leader: NodeId | None = None
        self.is_leader = True

    @property
    def state(self) -> ClusterState:
        return self.cluster.state

    @property
    def applied_index(self) -> LogIndex:
        return LogIndex(self.cluster.index)

    async def propose(self, command: Command) -> Outcome:
        self.proposed.append(command)
        outcome = self.cluster.apply(command)
        if self.lose_answer is not None:
            lost, self.lose_answer = self.lose_answer, None
            raise lost
        return outcome


def make_ca(cluster: ClusterId = CLUSTER, at_ms: int = NOW_MS) -> Authority:
    key = encode_key(ec.generate_private_key(ec.SECP256R1()))
    return make_authority(cluster, key, serial=x509.random_serial_number(), at_ms=WallMs(at_ms))


def certify(authority: Authority, keys: NodeKeys, at_ms: int = NOW_MS) -> bytes:
    request = make_request(authority.cluster, keys.node, keys.tls_key)
    return sign_request(authority, keys.node, request, serial=x509.random_serial_number(), at_ms=WallMs(at_ms))


class Member:
    """The founder of a cluster, with a desk at which others join."""

    def __init__(self, cluster: ClusterId = CLUSTER, at_ms: int = NOW_MS) -> None:
        self.clock = SetClock(at_ms)
        self.state_machine = Cluster()
        self.state_machine.at_ms = at_ms
        self.replica = DirectReplica(self.state_machine)
        self.keys = make_keys(NodeId("n-founder"))
        self.authority = make_ca(cluster, at_ms)
        self.certificate = certify(self.authority, self.keys, at_ms)
        own = OwnTrust(certificate=self.certificate, authorities=(self.authority.certificate,))
        self.data_keys = DataKeys(cluster, self.keys, lambda: self.state)
        self.is_current = True
        self.credentials = NodeCredentials(
            cluster,
            self.keys,
            own,
            state=lambda: self.state,
            wall=self.clock.wall,
            is_current=lambda: self.is_current,
        )
        self._found(at_ms)
        replica = cast("ReplicaDriver", self.replica)
        self.issuer = Issuer(cluster, self.data_keys, replica, self.clock, CountingIds())
        self.desk = JoinDesk(
            self.credentials,
            self.data_keys,
            self.issuer,
            replica,
            self.clock,
            gossip_keys=lambda: GossipKeys(keys=(b"g" * 32,), version=1),
            peers=lambda: (PeerAddress(node=self.keys.node, mesh="127.0.0.1:6881", gossip="127.0.0.1:7946"),),
        )

    @property
    def state(self) -> ClusterState:
        return self.state_machine.state

    def image(self) -> bytes:
        return image(self.state)

    def _found(self, at_ms: int) -> None:
        at = WallMs(at_ms)
        founding = Founding(authority_key=self.authority.key, data_key=os.urandom(32), made_at_ms=at)
        wrapped = self.data_keys.wrap(founding.data_key, self.keys.wrap_public, self.keys.node, 1)
        for command in (
            AdmitNode(
                node=self.keys.node,
                name="founder",
                at_ms=at,
                key=key_fingerprint(self.keys.tls_key),
                wrap_key=self.keys.wrap_public,
                certificate=listing_of(self.certificate, self.authority.fingerprint),
                schema=1,
            ),
            PutDataKey(request_id=RequestId("data"), at_ms=at, actor="f", version=1, wrapped={self.keys.node: wrapped}),
            self.data_keys.put_authority(
                self.authority, at_ms=at, actor="f", request_id=RequestId("ca"), founding=founding
            ),
        ):
            outcome = self.state_machine.apply(command)
            assert not outcome.error, outcome.message

    def make_token(
        self, uses: int = 1, ttl_ms: int = HOUR_MS, role: NodeRole = NodeRole.MEMBER, number: str = "tttttttt"
    ) -> JoinToken:
        token = JoinToken(
            fingerprint=short_fingerprint(self.authority.fingerprint),
            id=TokenId(number),
            secret=encode_random(os.urandom(16)),
        )
        outcome = self.state_machine.apply(
            CreateJoinToken(
                request_id=RequestId(f"token-{number}"),
                at_ms=self.clock.wall(),
                actor="ann",
                token=token.id,
                secret_hash=token.secret_hash,
                expires_at_ms=WallMs(self.clock.wall() + ttl_ms),
                uses=uses,
                role=role,
            )
        )
        assert not outcome.error, outcome.message
        return token


def order(token: JoinToken, keys: NodeKeys | None = None, name: str = "newcomer") -> JoinOrder:
    """What `orca join` brings along."""
    return JoinOrder(token=token, keys=keys or make_keys(NodeId("n-new")), name=name, schema=1, release="0.1.0")
