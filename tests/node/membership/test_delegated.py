"""A node's membership by an agent of the test's own process: tags, facts over the mesh, what is not believed."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair

from gossip.events import Tick
from gossip.facts import Facts, FactsConfig, FactWritten, PeerAppeared, SendBulk, SendFacts
from gossip.membership import Member, MembersChanged, MemberStatus, StatusChange
from gossip.messages import Address
from node.beliefs import BeliefTable
from node.membership import Membership
from node.membership.facts import NODE_KEY, KnownFacts
from node.membership.pulses import PULSE_S
from node.mesh.driver import MeshAddress
from node.mesh.frames import FrameStream
from node.sources import SystemClock, SystemIds
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.identity import Identity, start_identity
from orca.config import AgentSection, GossipBackend, GossipSection
from orca.model.event import EventKind, Severity
from orca.model.ids import NodeId, StateRevision
from orca.model.units import Instant, WallMs
from orca.model.view import GossipReply, MemberState, Observation
from orca.sources import Rng
from tests.consensus.scheduler.fake_world import make_node
from tests.gossip.rpc.memory_backend import AUTH_KEY, Served, comes, make_member, served

B = NodeId("n-b")
pytestmark = pytest.mark.integration


class Beside:
    """A membership whose agent is `at`; `sent` is what it put on the mesh."""

    def __init__(self, at: Served, identity: Identity, environment: Environment) -> None:
        self.at = at
        self.identity = identity
        self.beliefs = BeliefTable()
        self.events: list[tuple[EventKind, str]] = []
        self.sent: list[tuple[NodeId, bytes]] = []
        section = AgentSection(host=at.address.host, port=at.address.port, key=AUTH_KEY)
        self.membership = Membership(
            GossipSection(backend=GossipBackend.SERF, agent=section),
            identity,
            SystemClock(),
            environment,
            KnownFacts(self.beliefs),
            self._record,
            zone="east",
        )
        self.membership.send_frame = lambda node, frame: self.sent.append((node, frame))

    def _record(self, kind: EventKind, message: str, severity: Severity) -> None:
        del severity
        self.events.append((kind, message))

    def tell(self, change: StatusChange, member: Member) -> None:
        """The agent learns something."""
        self.at.backend.table[member.node] = member
        self.at.backend.publish(MembersChanged(change=change, members=(member,)))

    def node_b(self, status: MemberStatus = MemberStatus.ALIVE) -> Member:
        """An agent that stands for node `n-b` of the same cluster."""
        tags = {"orca": "1", "id": str(B), "name": "bee", "cluster": str(self.identity.cluster), "mesh": "6881"}
        return make_member("m2", 2, status, **tags)

    async def hear(self, peer: NodeId, *frames: bytes) -> None:
        """These frames come by a connection of `peer`, which then ends."""
        near, far = memory_stream_pair()
        sender = FrameStream(far)
        await sender.send(frames)
        await far.send_eof()
        await self.membership.serve_facts(peer, FrameStream(near))

    def drops(self) -> dict[str, int]:
        nobody = Observation(observer=B, at_ms=WallMs(0), state_revision=StateRevision(0), age_ms=0)
        return self.membership.describe(lambda **told: GossipReply(observation=nobody, **told)).drops


@asynccontextmanager
async def beside(tmp_path: Path) -> AsyncIterator[Beside]:
    with (
        DataDirectory.open(tmp_path / "data") as directory,
        Environment.open(directory, map_bytes_max=2**20) as environment,
    ):
        async with served() as at, trio.open_nursery() as nursery:
            made = Beside(at, start_identity(environment, SystemIds(), "one"), environment)
            await nursery.start(made.membership.run, 0, MeshAddress("127.0.0.1", 6000))
            yield made
            nursery.cancel_scope.cancel()


def words_of(node: NodeId, reader: NodeId, rng: Rng) -> list[bytes]:
    """Frames in which `node` tells `reader` about itself."""
    machine = Facts(FactsConfig(), str(node), 1, rng, Instant(0))
    machine.step(PeerAppeared(node=str(reader), address=Address("10.0.0.1", 1)), Instant(0))
    facts = msgspec.structs.replace(make_node("bee"), id=node)
    machine.step(FactWritten(key=NODE_KEY, value=msgspec.msgpack.encode(facts)), Instant(0))
    effects = machine.step(Tick(), Instant(1))
    return [one.payload for one in effects if isinstance(one, SendFacts | SendBulk)]


async def test_the_agent_gets_the_tags_of_the_node_and_gets_them_again_when_it_lost_them(tmp_path: Path) -> None:
    async with beside(tmp_path) as made:
        await comes(lambda: made.at.backend.table["m1"].tags.get("id") == made.identity.node)
        tags = made.at.backend.table["m1"].tags
        assert (tags["mesh"], tags["zone"], tags["name"]) == ("127.0.0.1:6000", "east", "one")
        made.tell(StatusChange.UPDATED, make_member("m1", 1, role="db"))
        await comes(lambda: made.at.backend.table["m1"].tags.get("id") == made.identity.node)
        assert made.at.backend.table["m1"].tags["role"] == "db", "tags of others are let be"
        assert (EventKind.AGENT_FOUND, f"the Serf agent at {made.at.address} answers") in made.events


async def test_facts_and_pulses_go_to_nodes_of_the_cluster_and_to_nobody_else(tmp_path: Path) -> None:
    async with beside(tmp_path) as made:
        stranger = make_member("m4", 4, orca="1", id="n-x", cluster="c-other", mesh="6881")
        made.tell(StatusChange.JOINED, stranger)
        made.tell(StatusChange.UPDATED, made.node_b())
        await comes(lambda: made.membership.mesh_address(B) == MeshAddress("10.0.0.2", 6881))
        made.membership.tell_node(msgspec.structs.replace(make_node("one"), id=made.identity.node))
        await comes(lambda: any(frame for _, frame in made.sent))
        await comes(lambda: (B, b"") in made.sent, timeout_s=PULSE_S * 5)
        assert {node for node, _ in made.sent} == {B}


async def test_what_a_node_says_of_itself_is_believed_and_what_it_says_as_another_is_not(tmp_path: Path) -> None:
    async with beside(tmp_path) as made:
        made.tell(StatusChange.UPDATED, made.node_b())
        await comes(lambda: made.membership.mesh_address(B))
        await made.hear(NodeId("n-x"), *words_of(B, made.identity.node, random.Random(1)))
        assert B not in made.beliefs.nodes, "nobody knows n-x"
        await made.hear(B, *words_of(NodeId("n-y"), made.identity.node, random.Random(1)))
        assert made.drops()["mesh_frames_of_others"] >= 1
        await made.hear(B, *words_of(B, made.identity.node, random.Random(1)))
        assert made.beliefs.nodes[B].name == "bee"


async def test_a_node_whose_agent_failed_is_no_more_and_what_it_said_holds_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with beside(tmp_path) as made:
        made.tell(StatusChange.UPDATED, made.node_b())
        await comes(lambda: made.membership.mesh_address(B))
        await made.hear(B, *words_of(B, made.identity.node, random.Random(1)))
        made.tell(StatusChange.FAILED, made.node_b(MemberStatus.FAILED))
        await comes(lambda: B not in made.beliefs.nodes)
        assert made.membership.sightings()[B].state is MemberState.FAILED
        made.tell(StatusChange.JOINED, made.node_b())
        await comes(lambda: B in made.beliefs.nodes)
        assert made.membership.sightings()[B].is_alive
        view = next(one for one in made.membership.members() if one.id == B)
        assert view.heard_age_ms is not None
        assert (EventKind.MEMBER_FAILED, "bee (10.0.0.2:7946) does not answer any more") in made.events


async def test_a_node_that_lives_as_another_member_is_not_lost_when_the_old_one_fails(tmp_path: Path) -> None:
    """It was moved to another backend, or its agent was renamed."""
    async with beside(tmp_path) as made:
        made.tell(StatusChange.UPDATED, made.node_b())
        await comes(lambda: made.membership.mesh_address(B))
        renamed = msgspec.structs.replace(made.node_b(), node="m5", address=Address("10.0.0.5", 7946))
        made.tell(StatusChange.JOINED, renamed)
        await comes(lambda: made.membership.mesh_address(B) == MeshAddress("10.0.0.5", 6881))
        await made.hear(B, *words_of(B, made.identity.node, random.Random(1)))
        made.tell(StatusChange.FAILED, made.node_b(MemberStatus.FAILED))
        await comes(lambda: (EventKind.MEMBER_FAILED, "bee (10.0.0.2:7946) does not answer any more") in made.events)
        assert made.membership.sightings()[B].is_alive
        assert made.membership.mesh_address(B) == MeshAddress("10.0.0.5", 6881)
        assert B in made.beliefs.nodes
