"""`GET /v1/ready`: whether every living node knows the ready copies of some services, and so sends requests to them.

A copy becomes ready on its own node, and the others hear of it by gossip, mostly within half a second. Who has just
deployed wants to know when any node serves what he deployed, so the node that he asks has the others
say when they know. Nothing is told for it in times when nobody asks.
"""

from collections.abc import Sequence
from typing import Any, Final

import trio

from node.api.call import Call, NoBody, Route
from node.api.caller import Caller
from node.api.control import Control
from node.api.far import FarNodes
from node.api.params import READY_COPIES_MAX, ReadyQuery
from orca.errors import NodeUnreachableError, NotFoundError, OrcaError
from orca.model.allocation import DesiredStatus
from orca.model.ids import AllocationId, NodeId, ServiceId
from orca.model.view import MemberState, NodeSilence, ReadyReply

GRACE_S: Final = 1.0
"""For the answer of a node that says that it does not know them."""
_LIVING: Final = frozenset({MemberState.ALIVE, MemberState.SUSPECT})


async def await_ready(call: Call[ReadyQuery, NoBody]) -> ReadyReply:
    """Answers as soon as all know, or when the time is over and says who does not."""
    query = call.query
    if query.copy or call.far is None:
        copies = query.copy or await _ready_copies(call.control, call.caller, query.service)
        return ReadyReply(observation=call.control.observation(), unknown=await _wait_for(call, copies))
    copies = await _ready_copies(call.control, call.caller, query.service)
    silent = await _ask_others(call, call.far, copies) if copies else []
    return ReadyReply(observation=call.control.observation(), silent=tuple(sorted(silent, key=lambda one: one.name)))


async def _ready_copies(control: Control, caller: Caller, services: Sequence[ServiceId]) -> tuple[AllocationId, ...]:
    """Those that this node sends requests to."""
    reply = await control.services(only=tuple(services))
    return tuple(
        copy.id
        for service in reply.services
        if caller.sees(service.project)
        for copy in service.allocations
        if copy.is_ready and copy.desired is DesiredStatus.RUNNING
    )


async def _wait_for(call: Call[ReadyQuery, Any], copies: Sequence[AllocationId]) -> tuple[AllocationId, ...]:
    """Those of `copies` that this node does not know to be ready when the time is over."""
    missing = tuple(copies)
    with trio.move_on_after(call.query.within_ms / 1000):
        while True:
            seen = call.control.change_count()
            known = frozenset(await _ready_copies(call.control, call.caller, call.query.service))
            missing = tuple(copy for copy in copies if copy not in known)
            if not missing:
                break
            await call.control.wait_change(seen)
    return missing


async def _ask_others(call: Call[ReadyQuery, Any], far: FarNodes, copies: Sequence[AllocationId]) -> list[NodeSilence]:
    """The living nodes that do not say in time that they know `copies`."""
    query, within_s = call.query, call.query.within_ms / 1000
    silent: list[NodeSilence] = []

    async def ask(node: NodeId) -> None:
        try:
            with trio.fail_after(within_s + GRACE_S):
                for start in range(0, len(copies), READY_COPIES_MAX):
                    some = copies[start : start + READY_COPIES_MAX]
                    async with far.client(node, call.caller) as client:
                        reply = await client.ready(query.service, within_s=within_s, copies=some)
                    if reply.unknown:
                        raise NotFoundError(f"it does not know yet that {len(reply.unknown)} of the copies are ready")
        except OrcaError as error:
            silent.append(far.silence(node, error))
        except trio.TooSlowError:
            silent.append(far.silence(node, NodeUnreachableError(f"no answer within {within_s + GRACE_S:g} s")))

    async with trio.open_nursery() as nursery:
        for member in call.control.membership.members():
            if member.id is not None and not member.is_observer and member.state in _LIVING:
                nursery.start_soon(ask, member.id)
    return silent


READY_ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/ready",
        handler=await_ready,
        summary="Wait until every living node sends requests to the ready copies of some services",
        tag="services",
        reply=ReadyReply,
        query=ReadyQuery,
    ),
)
