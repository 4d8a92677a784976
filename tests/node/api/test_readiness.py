"""Whether every node serves what was deployed is known at the node that is asked, as soon as it is so."""

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from orca.commands.progress import ignore
from orca.commands.rollout import Goal, GoalKind
from orca.commands.waiting import wait_for
from orca.errors import InvalidRequestError
from orca.model.allocation import DesiredStatus, Phase
from orca.model.ids import AllocationId, ServiceId, SpecRevision
from orca.model.spec import RuntimeKind
from orca.model.trust import Author
from orca.model.view import AllocationView, DeployRequest, MemberState, RolloutState
from tests.node.api.control import COPY, NODE, WEB, spec
from tests.node.api.test_far import FAR_COPY, OTHER, Pair


def ready(copy: AllocationId, desired: DesiredStatus = DesiredStatus.RUNNING) -> AllocationView:
    return AllocationView(
        id=copy,
        service=WEB,
        slot=0,
        revision=SpecRevision(1),
        node=NODE,
        runtime=RuntimeKind.WASM,
        desired=desired,
        phase=Phase.RUNNING,
        is_ready=True,
    )


@pytest.fixture
async def pair(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> AsyncIterator[Pair]:
    made = Pair(nursery)
    for control in (made.here, made.there):
        await control.deploy(DeployRequest(specs=(spec("web"),)), by=Author(actor="test"))
    made.here.ready = (ready(COPY), ready(FAR_COPY, DesiredStatus.STOPPED))
    yield made
    nursery.cancel_scope.cancel()


async def test_the_answer_comes_when_the_other_node_has_heard_of_the_ready_copies(pair: Pair) -> None:
    async def hear() -> None:
        await trio.sleep(1.5)
        pair.there.ready = (ready(COPY),)
        await pair.there.notify()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        began_at = trio.current_time()
        reply = await pair.client().ready((WEB,), within_s=3.0)
    assert reply.silent == ()
    assert trio.current_time() - began_at == pytest.approx(1.5, abs=0.3), "neither before it knows nor much later"


async def test_a_living_node_that_does_not_hear_of_them_is_named_when_the_time_is_over(pair: Pair) -> None:
    began_at = trio.current_time()
    reply = await pair.client().ready((WEB,), within_s=2.0)
    assert [(one.name, one.reason) for one in reply.silent] == [
        ("n2", "it does not know yet that 1 of the copies are ready")
    ]
    assert trio.current_time() - began_at == pytest.approx(2.0, abs=0.3)


async def test_a_node_that_says_nothing_is_waited_for_no_longer_and_a_dead_one_not_at_all(pair: Pair) -> None:
    pair.is_mute = True
    began_at = trio.current_time()
    (silent,) = (await pair.client().ready((WEB,), within_s=2.0)).silent
    assert silent.reason == "no answer within 3 s"
    assert trio.current_time() - began_at == pytest.approx(3.0, abs=0.3)
    pair.here.membership.nodes = (pair.member(OTHER, "n2", MemberState.FAILED),)
    pair.subjects.clear()
    assert (await pair.client().ready((WEB,), within_s=2.0)).silent == ()
    assert pair.subjects == []


async def test_without_ready_copies_nobody_is_asked(pair: Pair) -> None:
    pair.here.ready = (ready(COPY, DesiredStatus.STOPPED),)
    assert (await pair.client().ready((WEB, ServiceId("default/none")), within_s=5.0)).silent == ()
    assert pair.subjects == []
    with pytest.raises(InvalidRequestError):
        await pair.client().ready((), within_s=1.0)


async def test_a_change_that_is_waited_for_says_who_may_not_serve_it_yet(pair: Pair) -> None:
    view = pair.here.specs[WEB]
    await pair.here.deploy(DeployRequest(specs=(view,)), by=Author(actor="test"))
    pair.here.rollout = RolloutState.COMPLETED
    goal = Goal(service=WEB, kind=GoalKind.HEALTHY, revision=SpecRevision(pair.here.revisions[WEB]))
    outcome = await wait_for(pair.client(), (goal,), ignore)
    assert not outcome.failures
    assert [one.name for one in outcome.silent] == ["n2"]
