"""Where leases are had: the leader's desk, asked by itself or over the mesh."""

from typing import Final, TypeVar

import trio

from consensus.driver import ReplicaDriver
from consensus.state.cluster import Outcome
from consensus.state.commands import AcquireLease, LeaseRef, ReleaseLeases, RenewLeases
from node.changes import raise_refusal
from node.mesh.driver import Mesh
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from node.singletons.messages import (
    REFS_MAX,
    Answer,
    LeaseGiven,
    LeaseRefused,
    LeasesDone,
    LeasesHeld,
    LeasesKept,
    LeaseWanted,
    Question,
    check_right,
    decode_answer,
    decode_question,
    encode,
)
from orca.errors import (
    ConflictError,
    InvalidRequestError,
    NotLeaderError,
    OrcaError,
    PeerProtocolError,
    from_body,
    to_body,
)
from orca.model.ids import NodeId, singleton_lease
from orca.sources import Clock

ANSWER_S: Final = 5.0
T = TypeVar("T", LeaseGiven, LeasesKept)


class LeaseDesk:
    """Both ends."""

    def __init__(self, node: NodeId, replica: ReplicaDriver, mesh: Mesh, clock: Clock) -> None:
        self._node = node
        self._replica = replica
        self._mesh = mesh
        self._clock = clock

    async def ask(self, question: Question, kind: type[T], *, timeout_s: float) -> T:
        """The leader's answer; raises what it refuses with, NotLeaderError, NodeUnreachableError, TooSlowError."""
        leader = self._replica.leader
        if leader is None:
            raise NotLeaderError("no leader is known that could give a lease")
        with trio.fail_after(timeout_s):
            answer = await self._ask(leader, question)
        if isinstance(answer, LeaseRefused):
            raise from_body(answer.error)
        if not isinstance(answer, kind):
            raise PeerProtocolError(f"{leader} answers something else about leases than was asked")
        return answer

    async def _ask(self, leader: NodeId, question: Question) -> Answer:
        if leader == self._node:
            return await self._answer(self._node, question)
        async with self._mesh.connect(leader, Purpose.LEASES) as frames:
            await frames.send((encode(question),))
            return decode_answer(await frames.receive(), leader)

    async def serve(self, peer: NodeId, frames: FrameStream) -> None:
        """Answer one question of `peer`, whose identity the mesh has proved."""
        question = decode_question(await frames.receive(), peer)
        answer: Answer
        try:
            answer = await self._answer(peer, question)
        except OrcaError as error:
            answer = LeaseRefused(error=to_body(error))
        with trio.move_on_after(ANSWER_S):
            await frames.send((encode(answer),))

    async def _answer(self, peer: NodeId, question: Question) -> Answer:
        clock_ms = self._replica.lease_time_ms()
        if clock_ms is None:
            raise NotLeaderError("this node does not lead, or has only begun to, and gives no leases; ask again")
        match question:
            case LeaseWanted():
                return await self._give(peer, question, clock_ms)
            case LeasesHeld(leases=leases):
                command = RenewLeases(node=peer, leases=_few(leases), clock_ms=clock_ms, at_ms=self._clock.wall())
                outcome = await self._propose(command)
                return LeasesKept(leases=tuple(LeaseRef(lease=one.name, epoch=one.epoch) for one in outcome.leases))
            case LeasesDone(leases=leases):
                await self._propose(ReleaseLeases(node=peer, leases=_few(leases), at_ms=self._clock.wall()))
                return LeasesKept()
            case _:
                raise PeerProtocolError(f"{peer} asks something about leases that nobody answers")

    async def _give(self, peer: NodeId, wanted: LeaseWanted, clock_ms: int) -> LeaseGiven:
        state = self._replica.state
        allocation = check_right(state, peer, wanted)
        singleton, name = state.spec_of(allocation).singleton, singleton_lease(allocation.service)
        assert singleton is not None, "looked at just now"
        held = state.leases.get(name)
        if held is not None and held.holder != allocation.id:
            # Known without a line in the log for each try.
            raise ConflictError(f"{held.holder} on {held.node} holds it")
        outcome = await self._propose(
            AcquireLease(
                lease=name,
                node=peer,
                holder=str(allocation.id),
                ttl_ms=round(singleton.lease_s * 1000),
                clock_ms=clock_ms,
                at_ms=self._clock.wall(),
            )
        )
        return LeaseGiven(epoch=outcome.leases[0].epoch)

    async def _propose(self, command: AcquireLease | RenewLeases | ReleaseLeases) -> Outcome:
        outcome = await self._replica.propose(command, deadline_s=ANSWER_S)
        raise_refusal(outcome)
        return outcome


def _few(leases: tuple[LeaseRef, ...]) -> tuple[LeaseRef, ...]:
    if len(leases) > REFS_MAX:
        raise InvalidRequestError(f"one question may name {REFS_MAX} leases, not {len(leases)}")
    return leases
