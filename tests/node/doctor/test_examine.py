"""Two nodes examine each other over a real mesh and real gossip ports; a third does not answer."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
import trio

from gossip.codec import Keyring, PacketCodec
from gossip.messages import Address
from node.doctor.examine import Doctor, Way
from node.mesh.driver import Mesh, MeshAddress
from node.mesh.purpose import Purpose
from node.sources import SystemClock
from orca.model.doctor import LinkKind, NodeReport
from orca.model.ids import NodeId, StateRevision
from orca.model.units import WallMs
from orca.model.view import Observation
from tests.gossip.live.member import live_member
from tests.node.mesh.credentials import TrustedCluster

pytestmark = pytest.mark.integration
A, B, GONE = NodeId("n-a"), NodeId("n-b"), NodeId("n-gone")
KEY = bytes(range(32))
OBSERVATION = Observation(observer=A, at_ms=WallMs(0), state_revision=StateRevision(1))


def codec() -> PacketCodec:
    return PacketCodec(Keyring([KEY], lambda: bytes(12)))


class ShiftedClock(SystemClock):
    """A wall clock that is ahead by `ms`."""

    def __init__(self, ms: int = 0) -> None:
        self._ms = ms

    def wall(self) -> WallMs:
        return WallMs(super().wall() + self._ms)


@dataclass
class Clinic:
    """One node's doctor, and the ways that it knows."""

    doctor: Doctor
    ways: list[Way]


@pytest.fixture
def cluster() -> Iterator[TrustedCluster]:
    made = TrustedCluster()
    yield made
    made.close()


@asynccontextmanager
async def two_clinics(cluster: TrustedCluster, ahead_ms: int = 0) -> AsyncIterator[tuple[Clinic, Clinic]]:
    """Doctors of A and B, which know each other; B's clock is ahead."""
    places: dict[NodeId, MeshAddress] = {}
    async with (
        live_member(str(A), keys=[KEY]) as first,
        live_member(str(B), keys=[KEY]) as second,
        trio.open_nursery() as nursery,
    ):
        made: list[Clinic] = []
        for node, clock in ((A, ShiftedClock()), (B, ShiftedClock(ahead_ms))):
            mesh = Mesh(node, _Even(), address_of=places.get, credentials=cluster.credentials(node))
            ways: list[Way] = []
            report = NodeReport(node=node, name=node[2:], version="0.1.0", at_ms=WallMs(0))
            doctor = Doctor(mesh, clock, ways=ways.copy, codec=codec, own=partial(_same, report))
            made.append(Clinic(doctor, ways))
            serving = partial(mesh.run, {Purpose.DOCTOR: doctor.serve}, "127.0.0.1", 0)
            places[node] = await nursery.start(serving)
        for clinic, peer, member in ((made[0], B, second), (made[1], A, first)):
            clinic.ways.append(Way(node=peer, name=peer[2:], gossip=member.address, mesh=str(places[peer].port)))
        yield made[0], made[1]
        nursery.cancel_scope.cancel()


def _same(report: NodeReport) -> NodeReport:
    return report


class _Even:
    """No chance."""

    def random(self) -> float:
        return 0.5

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


async def test_nodes_that_reach_each_other_every_way_are_well(cluster: TrustedCluster) -> None:
    async with two_clinics(cluster) as (here, _):
        reply = await here.doctor.examine(OBSERVATION, frozenset({A, B}))
    assert [one.node for one in reply.nodes] == [A, B]
    for one in reply.nodes:
        assert one.report is not None
        assert [link.kind for link in one.report.links] == list(LinkKind)
        assert all(link.is_good for link in one.report.links)
    assert reply.findings == ()
    assert "all of them are needed" in reply.outlook[1]


async def test_a_node_that_does_not_answer_is_told_and_nobody_waits_for_it_for_long(cluster: TrustedCluster) -> None:
    async with two_clinics(cluster) as (here, there):
        dead = Way(node=GONE, name="gone", gossip=Address("127.0.0.1", 9), heard_age_ms=61_000)
        for clinic in (here, there):
            clinic.ways.append(dead)
        with trio.fail_after(20):
            reply = await here.doctor.examine(OBSERVATION, frozenset({A}))
    (missing,) = [one for one in reply.nodes if one.report is None]
    assert missing.node == GONE
    assert missing.problem
    (found,) = [one for one in reply.findings if one.subject == "gone"]
    assert "last heard 1m1s ago" in found.message
    assert len(reply.findings) == 1


async def test_a_clock_that_is_ahead_is_measured_over_the_mesh(cluster: TrustedCluster) -> None:
    async with two_clinics(cluster, ahead_ms=90_000) as (here, _):
        reply = await here.doctor.examine(OBSERVATION, frozenset({A, B}))
    (other,) = [one for one in reply.nodes if one.node == B]
    assert abs(other.clock_offset_ms - 90_000) <= other.clock_error_ms
    (found,) = reply.findings
    assert found.subject == "b"
    assert "1m30s ahead of the other's" in found.message
