"""What people do about trust: join tokens, the CA, leaving, and removing a node."""

import os
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from consensus.driver import ReplicaDriver
from consensus.state.cluster import ClusterState
from consensus.state.commands import Command, CreateJoinToken, RemoveNode, RevokeJoinToken
from consensus.state.records import NodeRecord
from node.changes import raise_refusal
from node.trust.authority import cross_sign, encode_key, make_authority
from node.trust.credentials import NodeCredentials, pem_of
from node.trust.data_keys import DataKeys
from node.trust.duties import signing_authority, succession_of
from node.trust.kept import KeptTrust
from node.trust.leaves import make_ingress_authority
from node.trust.messages import LeaveRequest, Left, Seat, SeatRequest
from node.trust.removal import Removal
from node.trust.service import TrustService
from node.upkeep import find_node
from orca.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NodeUnreachableError,
    NotAvailableError,
    NotFoundError,
    OrcaError,
)
from orca.model.allocation import DesiredStatus
from orca.model.ids import NodeId, RequestId, TokenId
from orca.model.join_token import JoinToken, encode_random, short_fingerprint
from orca.model.trust import Author
from orca.model.trust_view import (
    AuthoritiesReply,
    AuthorityView,
    CreateTokenRequest,
    JoinTokenView,
    NodeRemoval,
    TokenReply,
    TokensReply,
)
from orca.model.units import WallMs
from orca.model.view import Observation
from orca.sources import Clock, IdSource

_log = structlog.get_logger("orca.trust")
TTL_S_MAX: Final = 30 * 86_400.0
SEAT_S: Final = 90.0
SEAT_RETRY_S: Final = 0.5
LEAVE_TRIES: Final = 10
STOP_AFTER_S: Final = 0.5


class TrustControl:
    """The door between the API and the parts; every change is in the audit with `actor`."""

    def __init__(  # noqa: PLR0913 - the door to several parts
        self,
        credentials: NodeCredentials,
        kept: KeptTrust,
        data_keys: DataKeys,
        service: TrustService,
        replica: ReplicaDriver,
        clock: Clock,
        ids: IdSource,
        *,
        removal: Removal,
        observation: Callable[[], Observation],
        mesh_address: Callable[[], str],
        leave_gossip: Callable[[], None],
        plain_agents: Callable[[], list[str]],
        stop: Callable[[], None],
    ) -> None:
        self._credentials = credentials
        self._kept = kept
        self._data_keys = data_keys
        self._service = service
        self._replica = replica
        self._clock = clock
        self._ids = ids
        self._removal = removal
        self._observation = observation
        self._mesh_address = mesh_address
        self._leave_gossip = leave_gossip
        self._plain_agents = plain_agents
        self._stop = stop
        self._node = credentials.keys.node

    @property
    def _state(self) -> ClusterState:
        return self._replica.state

    def check_member(self) -> None:
        """Raise RemovedError on a node that was removed from its cluster."""
        self._removal.check()

    # ------------------------------------------------------------------------------- tokens

    async def create_token(self, request: CreateTokenRequest, *, by: Author) -> TokenReply:
        """A new join token; its secret is in this answer and nowhere else."""
        if not 0 < request.ttl_s <= TTL_S_MAX:
            raise InvalidRequestError(
                f"a token cannot live for {request.ttl_s:g} s; more than 0 and at most {TTL_S_MAX / 86_400:g} days"
            )
        authority = signing_authority(self._state)
        if authority is None:
            raise NotAvailableError("this cluster has no CA yet; its founder puts it there within seconds")
        token = JoinToken(
            fingerprint=short_fingerprint(authority.fingerprint),
            id=TokenId(encode_random(os.urandom(5))),
            secret=encode_random(os.urandom(16)),
        )
        command = CreateJoinToken(
            request_id=self._request_id(),
            at_ms=self._clock.wall(),
            actor=by.actor,
            origin=by.origin,
            token=token.id,
            secret_hash=token.secret_hash,
            expires_at_ms=WallMs(self._clock.wall() + round(request.ttl_s * 1000)),
            uses=request.uses,
            role=request.role,
            note=request.note,
        )
        await self._propose(command)
        return TokenReply(
            observation=self._observation(),
            token=token.text(),
            id=token.id,
            role=request.role,
            uses=request.uses,
            expires_at_ms=command.expires_at_ms,
            peer=self._mesh_address(),
        )

    def tokens(self) -> TokensReply:
        """All join tokens that are remembered, without their secrets, the newest first."""
        found = sorted(self._state.join_tokens.values(), key=lambda one: (-one.created_at_ms, one.id))
        return TokensReply(
            observation=self._observation(),
            tokens=tuple(
                JoinTokenView(
                    id=one.id,
                    role=one.role,
                    uses_left=one.uses_left,
                    created_at_ms=one.created_at_ms,
                    created_by=one.created_by,
                    expires_at_ms=one.expires_at_ms,
                    is_expired=self._clock.wall() >= one.expires_at_ms,
                    nodes=tuple(self._name_of(used.node) for used in one.redeemed),
                    note=one.note,
                )
                for one in found
            ),
        )

    async def revoke_token(self, token: TokenId, *, by: Author) -> None:
        """Nobody joins by it any more. Raises NotFoundError."""
        if token not in self._state.join_tokens:
            present = ", ".join(self._state.join_tokens) or "none"
            raise NotFoundError(f"there is no join token {token[:80]!r}; there are: {present}")
        await self._propose(
            RevokeJoinToken(
                request_id=self._request_id(),
                at_ms=self._clock.wall(),
                actor=by.actor,
                origin=by.origin,
                token=token,
            )
        )

    # -------------------------------------------------------------------------------- nodes

    async def remove_node(self, name: str, *, is_forced: bool, by: Author) -> NodeRemoval:
        """The node called `name`, or with that id, is out for ever. Raises ConflictError while it is needed."""
        record = self.find_node(name)
        had_keys = any(record.id in key.wrapped for key in self._state.data_keys.values())
        if record.id == self._node:
            raise ConflictError(
                f"{record.name} is the node that was asked; ask another one to remove it, or let it go with "
                "`orca leave`"
            )
        await self._propose(
            RemoveNode(
                request_id=self._request_id(),
                at_ms=self._clock.wall(),
                actor=by.actor,
                origin=by.origin,
                node=record.id,
                is_forced=is_forced,
            )
        )
        notes = ["every node refuses it within seconds; gossip gets a new key, which it does not know"]
        if agents := self._plain_agents():
            notes.append(
                f"these Serf agents are no nodes and get no key by themselves: {', '.join(agents)}; "
                "give them that of `orca gossip keys show`"
            )
        if had_keys:
            notes.append(
                "it could open the cluster's secrets and the CA's key: the data key is replaced now; if the node may "
                "be in wrong hands, also run `orca ca rotate` and `orca ca rotate --ingress`, and give the secrets new "
                "values"
            )
        return NodeRemoval(observation=self._observation(), node=record.id, name=record.name, notes=tuple(notes))

    def find_node(self, name: str) -> NodeRecord:
        """The node called `name`, or with that id or beginning of one. Raises NotFoundError, AmbiguousNameError."""
        return find_node(self._state, name)

    async def leave(self, *, is_forced: bool) -> None:
        """Go of one's own will: the seat first, then the place in the cluster, then the process, shortly after.

        Raises ConflictError with nothing changed for the last node, and for one that is to run copies.
        """
        state = self._state
        if set(state.nodes) <= {self._node}:
            raise ConflictError(
                "this is the only node of its cluster, so there is nothing to leave",
                hint="stop it, and remove its data directory when it is not needed any more",
            )
        own = state.copies.of_node(self._node).values()
        running = sum(one.desired is DesiredStatus.RUNNING for one in own)
        if running and not is_forced:
            raise ConflictError(
                f"{running} copies are to run here; scale or move them first, or leave with --force: "
                "they are placed on other nodes then"
            )
        await self._give_up_seat()
        await self._be_taken_out(is_forced=is_forced)
        await self._kept.keep_own_soon(msgspec.structs.replace(self._credentials.own, has_left=True))
        _log.info("this node has left its cluster")
        self._leave_gossip()
        trio.lowlevel.spawn_system_task(self._stop_soon)

    async def _stop_soon(self) -> None:
        await trio.sleep(STOP_AFTER_S)  # the answer is on its way meanwhile
        self._stop()

    async def _give_up_seat(self) -> None:
        reason = "no leader is known"
        with trio.move_on_after(SEAT_S):
            while True:
                leader = self._replica.leader
                try:
                    if leader == self._node:
                        self._service.excuse(self._node)
                    elif leader is not None and not (await self._service.ask(leader, SeatRequest(), Seat)).is_seated:
                        return
                except ForbiddenError:
                    return  # it is out already
                except OrcaError as error:
                    reason = error.message
                await trio.sleep(SEAT_RETRY_S)
        raise NotAvailableError(
            f"no other node took this one's seat in {SEAT_S:g} s ({reason}); it stays in the cluster",
            hint="`orca quorum` shows who could vote",
        )

    async def _be_taken_out(self, *, is_forced: bool) -> None:
        """Ask until it is certain: who is out is cut off at once, so the answer may be lost on its way."""
        reason = "no other node leads"
        for _ in range(LEAVE_TRIES):
            leader = self._replica.leader
            if leader is not None and leader != self._node:
                try:
                    await self._service.ask(leader, LeaveRequest(is_forced=is_forced), Left)
                except ForbiddenError:
                    return  # it is out already
                except (NodeUnreachableError, NotAvailableError) as error:
                    reason = error.message
                else:
                    return
            await trio.sleep(SEAT_RETRY_S)
        raise NotAvailableError(f"this node could not be taken out of the cluster: {reason}; try again")

    # ----------------------------------------------------------------------------- authorities

    def authorities(self) -> AuthoritiesReply:
        """The CAs that are believed, and how far a change of them is."""
        due = succession_of(self._state)
        by_id = {one.fingerprint: one for one in self._state.authorities.values()}
        return AuthoritiesReply(
            observation=self._observation(),
            authorities=tuple(
                AuthorityView(
                    fingerprint=one.fingerprint,
                    token_fingerprint=short_fingerprint(one.fingerprint),
                    state=one.state,
                    created_at_ms=one.created_at_ms,
                    certificate=pem_of(one.certificate),
                    nodes=sum(
                        any(certificate.authority == one.fingerprint for certificate in node.certificates)
                        for node in self._state.nodes.values()
                    ),
                )
                for one in sorted(by_id.values(), key=lambda one: (-one.created_at_ms, one.fingerprint))
            ),
            is_changing=len(by_id) > 1,
            waiting=due.waiting,
            ingress="" if self._state.ingress_authority is None else pem_of(self._state.ingress_authority.certificate),
        )

    async def rotate(self, *, by: Author) -> AuthoritiesReply:
        """Begin a change of the CA; nodes get new certificates by themselves, then the old one is dropped.

        Raises ConflictError while another change runs, NotAvailableError on a node that cannot open the CA's key.
        """
        if len(self._state.authorities) > 1:
            waiting = ", ".join(succession_of(self._state).waiting) or "nobody"
            raise ConflictError(
                f"the CA is being changed already, and waits for {waiting}",
                hint="start those nodes, or remove those that will not come back with `orca nodes rm`",
            )
        older = self._data_keys.signing()
        at_ms = self._clock.wall()
        key = encode_key(ec.generate_private_key(ec.SECP256R1()))
        newer = make_authority(older.cluster, key, serial=x509.random_serial_number(), at_ms=at_ms)
        cross = cross_sign(older, newer, serial=x509.random_serial_number(), at_ms=at_ms)
        await self._propose(
            self._data_keys.put_authority(
                newer, at_ms=at_ms, actor=by.actor, origin=by.origin, request_id=self._request_id(), cross=cross
            )
        )
        return self.authorities()

    async def rotate_ingress(self, *, by: Author) -> AuthoritiesReply:
        """Put another CA of served names in the place of the present one; every node shows certificates of it at once.

        Whoever trusts the old one has to be given the new one. Raises ConflictError where somebody was quicker,
        NotAvailableError on a node that cannot open the CA's key.
        """
        older = self._data_keys.ingress_signing()
        at_ms = self._clock.wall()
        key = encode_key(ec.generate_private_key(ec.SECP256R1()))
        newer = make_ingress_authority(older.cluster, key, serial=x509.random_serial_number(), at_ms=at_ms)
        command = self._data_keys.put_ingress_authority(
            newer, at_ms=at_ms, actor=by.actor, request_id=self._request_id()
        )
        await self._propose(msgspec.structs.replace(command, origin=by.origin, replaces=older.fingerprint))
        return self.authorities()

    # ------------------------------------------------------------------------------------ ways

    def _name_of(self, node: NodeId) -> str:
        known = self._state.nodes.get(node)
        gone = self._state.revoked.get(node)
        return known.name if known is not None else gone.name if gone is not None else str(node)

    def _request_id(self) -> RequestId:
        return RequestId(self._ids.fresh())

    async def _propose(self, command: Command) -> None:
        raise_refusal(await self._replica.propose(command))
