"""Views of everything are of one moment, and the loop turns while they are made."""

import trio

from node.overview import PIECE, Moment
from node.views import service_view
from orca.model.ids import ServiceId
from orca.model.view import AllocationView, ServiceView
from tests.consensus.intent import make_spec
from tests.consensus.scheduler.fake_world import World, make_node

SERVICES = 5 * PIECE + 3


def full_world() -> World:
    world = World(nodes=(make_node("a", cpu=10**6, memory=2**50),))
    world.put(*(make_spec(f"web{number:04d}", replicas=2) for number in range(SERVICES)))
    world.settle()
    return world


class Turns:
    """How often another task had its turn."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            self.count += 1
            await trio.lowlevel.checkpoint()


async def test_views_are_those_of_each_service_and_others_have_their_turns() -> None:
    world = full_world()
    records = [world.state.services[name] for name in sorted(world.state.services)]
    turns = Turns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        views = await Moment(world.state, world.statuses, {}).services(records)
        nursery.cancel_scope.cancel()
    assert views == tuple(service_view(world.state, record, world.statuses, "") for record in records)
    assert all(view.ready == 2 for view in views)
    assert turns.count >= SERVICES // PIECE - 1  # the first may pass before it is started


async def test_what_changes_meanwhile_is_not_seen() -> None:
    world = full_world()
    records = list(world.state.services.values())
    copies = list(world.state.allocations.values())
    last = records[-1].id
    moment = Moment(world.state, world.statuses, {last: "waits for an answer"})
    services: list[ServiceView] = []
    allocations: list[AllocationView] = []

    async def look() -> None:
        services.extend(await moment.services(records))
        allocations.extend(await moment.allocations(copies))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await trio.lowlevel.checkpoint()
        world.remove(last)
        world.statuses.clear()
        world.state.allocations.clear()
    assert ServiceId(last) not in world.state.services
    assert services[-1].id == last
    assert services[-1].blocked == "waits for an answer"
    assert [len(view.allocations) for view in services] == [2] * SERVICES
    assert all(one.is_ready for one in allocations)
    assert [(one.service, one.slot) for one in allocations] == sorted((one.service, one.slot) for one in allocations)
