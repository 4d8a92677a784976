"""What nodes ask the leader about leases, over the mesh. Pure."""

from typing import TypeAlias

import msgspec

from consensus.state.cluster import ClusterState
from consensus.state.commands import LeaseRef
from orca.errors import ErrorBody, ForbiddenError, PeerProtocolError
from orca.model.allocation import Allocation, DesiredStatus
from orca.model.ids import AllocationId, LeaseEpoch, NodeId

REFS_MAX = 10_000


class LeaseWanted(msgspec.Struct, frozen=True, kw_only=True, tag="wanted"):
    """The lease of the service of `allocation`, which is to run on the node that asks."""

    allocation: AllocationId


class LeasesHeld(msgspec.Struct, frozen=True, kw_only=True, tag="held"):
    """Prolong these."""

    leases: tuple[LeaseRef, ...]


class LeasesDone(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """Nothing runs under these any more."""

    leases: tuple[LeaseRef, ...]


class LeaseGiven(msgspec.Struct, frozen=True, kw_only=True, tag="given"):
    """The number of the lease that was wanted."""

    epoch: LeaseEpoch


class LeasesKept(msgspec.Struct, frozen=True, kw_only=True, tag="kept"):
    """Those of the asked ones that the node holds now."""

    leases: tuple[LeaseRef, ...] = ()


class LeaseRefused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Why not."""

    error: ErrorBody


Question: TypeAlias = LeaseWanted | LeasesHeld | LeasesDone
Answer: TypeAlias = LeaseGiven | LeasesKept | LeaseRefused
_questions = msgspec.msgpack.Decoder(Question)
_answers = msgspec.msgpack.Decoder(Answer)
encode = msgspec.msgpack.encode


def decode_question(payload: bytes, peer: NodeId) -> Question:
    """Raises PeerProtocolError for what is none."""
    try:
        found: Question = _questions.decode(payload)
    except msgspec.MsgspecError as error:
        raise PeerProtocolError(f"{peer} asks about leases in words that are none: {error}") from error
    return found


def decode_answer(payload: bytes, peer: NodeId) -> Answer:
    """Raises PeerProtocolError for what is none."""
    try:
        found: Answer = _answers.decode(payload)
    except msgspec.MsgspecError as error:
        raise PeerProtocolError(f"{peer} answers about leases in words that are none: {error}") from error
    return found


def check_right(state: ClusterState, peer: NodeId, wanted: LeaseWanted) -> Allocation:
    """The copy that is meant; raises ForbiddenError unless it is a singleton's that `peer` is to run."""
    allocation = state.allocations.get(wanted.allocation)
    if allocation is None or allocation.node != peer or allocation.desired is not DesiredStatus.RUNNING:
        raise ForbiddenError(f"{peer} is not to run {wanted.allocation}, so it gets no lease for it")
    if state.spec_of(allocation).singleton is None:
        raise ForbiddenError(f"{allocation.service} is no singleton, so its copies need no lease")
    return allocation
