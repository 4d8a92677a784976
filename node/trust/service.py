"""What nodes of a cluster ask each other about trust, over the mesh: certificates, gossip keys, seats, leaving."""

import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import structlog
import trio

from consensus.driver import ReplicaDriver
from consensus.state.commands import LeaveNode
from node.changes import raise_refusal
from node.group.keeper import GroupKeeper
from node.mesh.driver import Mesh
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from node.trust.issuing import Issuer
from node.trust.messages import (
    GossipKeys,
    KeysRequest,
    LeaveRequest,
    Left,
    Message,
    Renewed,
    RenewRequest,
    Seat,
    SeatRequest,
    TrustRefused,
    decode_message,
    encode_message,
    error_of,
    refusal_of,
)
from orca.errors import NodeUnreachableError, NotAvailableError, NotLeaderError, OrcaError, PeerProtocolError
from orca.model.ids import NodeId, RequestId
from orca.sources import Clock, IdSource

T = TypeVar("T", bound=Message)
_log = structlog.get_logger("orca.trust")
ASK_S: Final = 15.0
REQUESTS_MAX: Final = 4
"""On one stream; nobody needs more."""


class TrustService:
    """Both ends. Whoever asks is a node of the cluster: the mesh has looked at its certificate."""

    def __init__(  # noqa: PLR0913 - it answers for several parts of the node
        self,
        node: NodeId,
        mesh: Mesh,
        replica: ReplicaDriver,
        issuer: Issuer,
        group: GroupKeeper,
        clock: Clock,
        ids: IdSource,
        *,
        gossip_keys: Callable[[], GossipKeys],
        others: Callable[[], Iterable[NodeId]],
    ) -> None:
        self._node = node
        self._mesh = mesh
        self._replica = replica
        self._issuer = issuer
        self._group = group
        self._clock = clock
        self._ids = ids
        self._gossip_keys = gossip_keys
        self._others = others

    # ------------------------------------------------------------------------- to be asked

    async def serve(self, peer: NodeId, frames: FrameStream) -> None:
        """One stream of `peer`."""
        for _ in range(REQUESTS_MAX):
            batch = await frames.receive_some()
            for payload in batch:
                try:
                    answer = await self._answer(peer, decode_message(payload))
                except OrcaError as error:
                    answer = refusal_of(error)
                await frames.send((encode_message(answer),))
            if not batch:
                return

    async def _answer(self, peer: NodeId, request: Message) -> Message:
        match request:
            case RenewRequest(csr=csr):
                return Renewed(certificate=await self._issuer.renew(peer, csr))
            case KeysRequest():
                return self._gossip_keys()
            case SeatRequest():
                return Seat(is_seated=self.excuse(peer))
            case LeaveRequest(is_forced=is_forced):
                await self.take_out(peer, is_forced=is_forced)
                return Left()
            case _:
                raise PeerProtocolError(f"{peer} asked something about trust that nobody answers over the mesh")

    def excuse(self, node: NodeId) -> bool:
        """Let the group go on without `node`, which is about to leave; whether it still needs it.

        Raises NotLeaderError elsewhere than on the leader.
        """
        if not self._replica.is_leader:
            raise NotLeaderError("only the leader gives a seat to another node; ask again")
        self._group.excuse(node)
        return node in self._replica.raft.membership.members

    async def take_out(self, node: NodeId, *, is_forced: bool) -> None:
        """`node` is none of the cluster any more. Raises ConflictError while it is needed."""
        outcome = await self._replica.propose(
            LeaveNode(
                request_id=RequestId(self._ids.fresh()),
                at_ms=self._clock.wall(),
                actor=f"node:{node}",
                node=node,
                is_forced=is_forced,
            )
        )
        raise_refusal(outcome)

    # ------------------------------------------------------------------------------ to ask

    async def renew(self, csr: bytes) -> bytes:
        """A certificate from any member that can sign; raises NotAvailableError when none does."""
        answer, _ = await self._ask_any(RenewRequest(csr=csr), Renewed)
        return answer.certificate

    async def gossip_keys(self, version: int) -> GossipKeys:
        """The keys of a member that has `version` already."""
        found, peer = await self._ask_any(KeysRequest(), GossipKeys, fits=lambda keys: keys.version >= version)
        _log.info("gossip keys came from a peer", peer=peer, version=found.version)
        return found

    async def ask(self, peer: NodeId, request: Message, kind: type[T]) -> T:
        """The answer of `peer`; raises what it refuses with, NodeUnreachableError."""
        with trio.move_on_after(ASK_S):
            async with self._connected(peer) as frames:
                await frames.send((encode_message(request),))
                answer = decode_message(await frames.receive())
            if isinstance(answer, TrustRefused):
                raise error_of(answer)
            if not isinstance(answer, kind):
                raise PeerProtocolError(f"{peer} answered something else than {kind.__name__}; install one release")
            return answer
        raise NodeUnreachableError(f"{peer} gave no answer in {ASK_S:g} s")

    @asynccontextmanager
    async def _connected(self, peer: NodeId) -> AsyncIterator[FrameStream]:
        async with self._mesh.connect(peer, Purpose.TRUST) as frames:
            yield frames

    async def _ask_any(
        self, request: Message, kind: type[T], fits: Callable[[T], bool] = lambda _: True
    ) -> tuple[T, NodeId]:
        peers = [peer for peer in self._others() if peer != self._node]
        random.shuffle(peers)
        reasons = []
        for peer in peers:
            try:
                answer = await self.ask(peer, request, kind)
            except OrcaError as error:
                reasons.append(f"{peer}: {error.message}")
                continue
            if fits(answer):
                return answer, peer
            reasons.append(f"{peer}: it has nothing newer")
        raise NotAvailableError("no other node could help: " + ("; ".join(reasons[:5]) or "none is known to live"))
