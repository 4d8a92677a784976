"""Labels, cordons, drains and reasons as people ask for them."""

from typing import Any

import msgspec
import pytest

from consensus.state.commands import AcquireLease, LeaseRef, ReleaseLeases
from orca.errors import InvalidRequestError, NotFoundError
from orca.model.ids import ServiceId, singleton_lease
from orca.model.node import NodeAvailability
from orca.model.placement_view import CordonRequest, DrainRequest, LabelRequest, UndrainRequest
from orca.model.spec import MountSpec, PlacementSpec, Resources, SingletonSpec
from orca.model.trust import Author
from orca.model.units import MilliCpu, WallMs
from tests.consensus.intent import make_spec
from tests.consensus.scheduler.rollouts import PROBED
from tests.node.scheduling import Admitted

ANN = Author(actor="ann", origin="local")
WEB = ServiceId("default/web")


def serving(**fields: Any) -> Admitted:
    world = Admitted()
    world.put(make_spec(**{"replicas": 2, **PROBED, **fields}))
    world.settle()
    return world


async def test_a_drain_shows_what_is_left_and_what_that_waits_for_until_nothing_is() -> None:
    world = serving()
    reply = await world.upkeep.drain("b", DrainRequest(reason="new disk", deadline_s=60), by=ANN)
    assert reply.availability is NodeAvailability.DRAINING
    assert (reply.by, reply.reason, reply.deadline_at_ms) == ("ann", "new disk", world.at_ms + 60_000)
    (left,) = reply.left
    assert left.reason == "is to leave, as the node is drained: waits for its turn"
    world.think_all()
    (left,) = world.upkeep.care("b").left
    assert left.reason.endswith("waits until its successor on a is healthy")
    world.settle()
    assert world.upkeep.care("n-b").left == ()
    reply = await world.upkeep.undrain("b", UndrainRequest(), by=ANN)
    assert (reply.availability, reply.by) == (NodeAvailability.ACTIVE, "")


async def test_a_drain_that_cannot_proceed_says_what_holds_it() -> None:
    world = serving(mounts=(MountSpec(target="/d", source="data"),), replicas=1)
    (copy,) = world.copies()
    await world.upkeep.drain(copy.node.removeprefix("n-"), DrainRequest(), by=ANN)
    world.settle()
    (left,) = world.upkeep.care(copy.node).left
    assert "does not have the data of volume default/data" in left.reason


async def test_why_says_which_copy_of_a_singleton_has_the_lease_and_what_the_other_waits_for() -> None:
    world = serving(replicas=1, singleton=SingletonSpec())
    (copy,) = world.copies()
    assert world.upkeep.why(WEB).copies[0].reason == "belongs here, and nobody has the lease yet"
    lease = singleton_lease(copy.service)
    command = AcquireLease(lease=lease, node=copy.node, holder="c9", ttl_ms=15_000, clock_ms=0, at_ms=WallMs(0))
    fence = world.apply(command).leases[0].epoch
    name = copy.node.removeprefix("n-")
    waits = f"belongs here, and waits for the lease that c9 on {name} has"
    assert world.upkeep.why(WEB).copies[0].reason == waits
    world.apply(ReleaseLeases(node=copy.node, leases=(LeaseRef(lease=lease, epoch=fence),), at_ms=WallMs(0)))
    fence = world.apply(msgspec.structs.replace(command, holder=str(copy.id))).leases[0].epoch
    assert world.upkeep.why(WEB).copies[0].reason == f"belongs here, and has the lease, fence {fence}"


async def test_why_has_a_reason_for_every_node_and_every_copy() -> None:
    world = serving(resources=Resources(cpu_milli=MilliCpu(2500)))
    await world.upkeep.cordon("a", CordonRequest(reason="noisy"), by=ANN)
    world.scale("default/web", 3)
    world.think_all()
    reply = world.upkeep.why(WEB)
    assert [(one.name, one.copies, one.refusal) for one in reply.nodes] == [
        ("a", 1, "is cordoned (noisy)"),
        ("b", 1, "has 1.5 of 4 cpu left, a copy wants 2.5"),
    ]
    assert [one.reason for one in reply.copies] == ["belongs here", "belongs here"]
    assert reply.wanted == 3
    assert reply.waits_for.startswith("no node can take it: a is cordoned (noisy); b has 1.5")
    world.lose("b")
    reply = world.upkeep.why(WEB)
    assert [(one.name, one.is_alive) for one in reply.nodes] == [("a", True), ("b", False)]
    assert reply.copies[1].reason == "its node is not heard of; it is replaced in 3 s"
    with pytest.raises(NotFoundError):
        world.upkeep.why(ServiceId("default/api"))


async def test_labels_are_set_shown_and_removed_and_move_what_does_not_fit() -> None:
    world = serving(replicas=1, placement=PlacementSpec(constraints=("disk != hdd",)))
    (copy,) = world.copies()
    reply = await world.upkeep.label(copy.node, LabelRequest(labels={"disk": "hdd"}), by=ANN)
    assert reply.labels == {"disk": "hdd"}
    assert reply.left[0].reason.startswith("is to leave, as label disk is hdd, wanted is disk != hdd")
    with pytest.raises(NotFoundError, match="has no label zone"):
        await world.upkeep.label(copy.node, LabelRequest(remove=("zone",)), by=ANN)
    with pytest.raises(InvalidRequestError, match="names no label"):
        await world.upkeep.label(copy.node, LabelRequest(), by=ANN)
    assert (await world.upkeep.label(copy.node, LabelRequest(remove=("disk",)), by=ANN)).labels == {}


async def test_an_unknown_node_and_a_wrong_deadline_change_nothing() -> None:
    world = serving()
    revision = world.state.revision
    with pytest.raises(NotFoundError, match="there are: a, b"):
        await world.upkeep.drain("c", DrainRequest(), by=ANN)
    with pytest.raises(InvalidRequestError, match="out of range"):
        await world.upkeep.drain("a", DrainRequest(deadline_s=-1), by=ANN)
    assert world.state.revision == revision
