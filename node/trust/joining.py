"""A join on trio: the desk of a member, and what who joins says there."""

from collections.abc import Callable
from typing import Final

import msgspec
import structlog
import trio

from consensus.driver import ReplicaDriver
from node.mesh.frames import FrameStream
from node.trust.attempts import Attempts
from node.trust.authority import (
    certified_key,
    fingerprint_of,
    identity_in,
    key_fingerprint,
    load_certificate,
    make_request,
)
from node.trust.credentials import NodeCredentials
from node.trust.data_keys import DataKeys
from node.trust.issuing import Issuer
from node.trust.judging import judge_offer, judge_request, judge_token
from node.trust.kept import NodeKeys
from node.trust.messages import (
    ANSWER_BYTES_MAX,
    REQUEST_BYTES_MAX,
    GossipKeys,
    JoinAnswer,
    JoinRequest,
    Offer,
    PeerAddress,
    TrustRefused,
    decode_message,
    encode_message,
    error_of,
    refusal_of,
)
from orca.errors import (
    ConflictError,
    ForbiddenError,
    NodeUnreachableError,
    NotAvailableError,
    OrcaError,
    PeerProtocolError,
)
from orca.model.ids import ClusterId, LogIndex
from orca.model.join_token import JoinToken
from orca.model.node import NodeAddresses
from orca.model.trust import NodeRole
from orca.sources import Clock

_log = structlog.get_logger("orca.trust")
REQUEST_S: Final = 10.0
ANSWER_S: Final = 40.0
KEY_WAIT_S: Final = 5.0
"""A member that has just joined itself is given the data key within so long."""
FAREWELL_S: Final = 2.0


class JoinDesk:
    """Serves those who want to join: at most one request a connection, and nothing changes before it is right.

    `gossip_keys` and `peers` are what a new node is given.
    """

    def __init__(
        self,
        credentials: NodeCredentials,
        data_keys: DataKeys,
        issuer: Issuer,
        replica: ReplicaDriver,
        clock: Clock,
        *,
        gossip_keys: Callable[[], GossipKeys],
        peers: Callable[[], tuple[PeerAddress, ...]],
    ) -> None:
        self._credentials = credentials
        self._data_keys = data_keys
        self._issuer = issuer
        self._replica = replica
        self._clock = clock
        self._gossip_keys = gossip_keys
        self._peers = peers
        self.attempts = Attempts()

    async def serve(self, stream: trio.abc.Stream, address: str) -> None:
        """One who comes from `address`, over TLS; the stream is closed by the caller."""
        frames = FrameStream(stream, bytes_max=REQUEST_BYTES_MAX)
        try:
            await frames.send((encode_message(self._offer()),))
            with trio.move_on_after(REQUEST_S) as scope:
                request = decode_message(await frames.receive())
            if scope.cancelled_caught:
                return
            if not isinstance(request, JoinRequest):
                raise PeerProtocolError("a join begins with a request to join")
            answer: JoinAnswer | TrustRefused = await self._answer(request, address)
        except NodeUnreachableError as error:
            _log.debug("one who wanted to join went away", address=address, reason=error.message)
            return
        except OrcaError as error:
            answer = refusal_of(error)
        with trio.move_on_after(FAREWELL_S):
            await frames.send((encode_message(answer),))

    def _offer(self) -> Offer:
        return Offer(
            cluster=self._credentials.cluster,
            authorities=self._credentials.anchors(),
            cross=self._credentials.cross_certificates(),
            wall_ms=self._clock.wall(),
        )

    async def _answer(self, request: JoinRequest, address: str) -> JoinAnswer:
        wait_s = self.attempts.wait_s(address, self._clock.now())
        if wait_s > 0:
            raise NotAvailableError(
                f"too many wrong join tokens came to this node; nothing was looked at, try again in {wait_s:.0f} s",
                hint="check the token; `orca token ls` on a node of the cluster shows which are valid",
            )
        try:
            judge_token(request, self._replica.state, self._clock.wall())
        except ForbiddenError as error:
            self.attempts.failed(address, self._clock.now())
            _log.warning("a join was refused", address=address, token=request.token[:16], reason=error.message)
            raise
        try:
            key = judge_request(request, self._replica.state, self._credentials.cluster, self._clock.wall())
            await self._wait_for_key()
            certificate = await self._issuer.admit(request, key, address)
        except OrcaError as error:
            _log.warning("a join was refused", address=address, name=request.name[:64], reason=error.message)
            raise
        _log.info("a node joined", name=request.name, node=request.node, address=address, token=request.token)
        keys = self._gossip_keys()
        return JoinAnswer(
            cluster=self._credentials.cluster,
            certificate=certificate,
            authorities=self._credentials.anchors(),
            cross=self._credentials.cross_certificates(),
            gossip_keys=keys.keys,
            gossip_key_version=keys.version,
            peers=self._peers(),
        )

    async def _wait_for_key(self) -> None:
        nodes = self._replica.state.nodes
        own = nodes.get(self._credentials.keys.node)
        if own is not None and own.role is NodeRole.WORKER:
            members = [one.addresses.mesh or one.name for one in nodes.values() if one.role is NodeRole.MEMBER]
            raise ForbiddenError(
                f"{own.name} is a worker, which cannot sign certificates; nothing was changed",
                hint=f"join by a member: {', '.join(sorted(members)[:5])}",
            )
        with trio.move_on_after(KEY_WAIT_S):
            while not self._data_keys.can_sign:
                await self._replica.wait_applied(LogIndex(self._replica.applied_index + 1))
            return
        raise NotAvailableError(
            "this node cannot sign certificates yet: it has just joined itself; nothing was changed",
            hint="try again in some seconds, or join by another node; `orca nodes` lists them",
        )


class JoinOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Who joins, as what, and by which token; `own_cluster` is the one that its data directory belongs to."""

    token: JoinToken
    keys: NodeKeys
    name: str
    schema: int
    release: str
    own_cluster: ClusterId | None = None


async def ask_to_join(
    stream: trio.abc.Stream, leaf: bytes, order: JoinOrder, addresses: NodeAddresses, *, peer: str, clock: Clock
) -> JoinAnswer:
    """Join over `stream`, on which `peer` has proved that `leaf` (DER) is its own certificate.

    Raises what the peer refuses with, ForbiddenError and nothing sent when it is not of the token's cluster,
    ConflictError and nothing sent when this data directory belongs to another one, NodeUnreachableError.
    """
    frames = FrameStream(stream, bytes_max=ANSWER_BYTES_MAX)
    with trio.move_on_after(REQUEST_S) as scope:
        offer = decode_message(await frames.receive())
    if scope.cancelled_caught:
        raise NodeUnreachableError(f"{peer} says nothing; is it the mesh port (6881) of a node?")
    if not isinstance(offer, Offer):
        raise PeerProtocolError(f"{peer} began a join with something else than an offer; install the same release")
    judge_offer(offer, leaf, order.token, peer, clock.wall())
    if order.own_cluster not in (None, offer.cluster):
        raise ConflictError(
            f"this data directory belongs to cluster {order.own_cluster} and {peer} to {offer.cluster}; "
            "nothing was changed",
            hint="join with an empty directory (--data-dir), or move this one away when its cluster is not needed",
        )
    keys = order.keys
    request = JoinRequest(
        token=order.token.id,
        secret=order.token.secret,
        csr=make_request(offer.cluster, keys.node, keys.tls_key),
        wrap_key=keys.wrap_public,
        node=keys.node,
        name=order.name,
        addresses=addresses,
        schema=order.schema,
        release=order.release,
        wall_ms=clock.wall(),
    )
    await frames.send((encode_message(request),))
    with trio.move_on_after(ANSWER_S) as scope:
        answer = decode_message(await frames.receive())
    if scope.cancelled_caught:
        raise NodeUnreachableError(
            f"{peer} gave no answer in {ANSWER_S:g} s; join again with the same data directory, which takes no second "
            "use of the token"
        )
    if isinstance(answer, TrustRefused):
        raise error_of(answer)
    if not isinstance(answer, JoinAnswer):
        raise PeerProtocolError(f"{peer} answered a join with something else; install the same release on both")
    _check_answer(answer, offer, keys, peer)
    return answer


def _check_answer(answer: JoinAnswer, offer: Offer, keys: NodeKeys, peer: str) -> None:
    certificate = load_certificate(answer.certificate)
    is_own = identity_in(certificate) == (offer.cluster, keys.node)
    is_own = is_own and certified_key(certificate) == key_fingerprint(keys.tls_key)
    known = {fingerprint_of(one) for one in offer.authorities}
    if answer.cluster != offer.cluster or not is_own or not known & {fingerprint_of(one) for one in answer.authorities}:
        raise PeerProtocolError(f"{peer} answered with a certificate that is not for this node; nothing was kept")
