"""Any node answers for the copies of all: by asking their nodes, once, for somebody that they judge themselves."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import msgspec
import pytest
import trio
import trio.testing

from node.api.authentication import Door
from node.api.caller import Caller, Peer, PeerKind
from node.api.far import ANSWER_S, Connector, words_of
from node.api.passport import BYTES_MAX, Passport, admit, issue, read_passport
from node.api.server import Api
from node.selection import Placed
from orca.client import Credentials, ExecOutput, NodeAddress, NodeClient
from orca.errors import (
    ForbiddenError,
    NodeUnreachableError,
    NotFoundError,
    PeerProtocolError,
    UnauthorizedError,
)
from orca.model.event import EventKind, NodeEvent
from orca.model.ids import AllocationId, LogIndex, NodeId, ProjectName, SecretId, StateRevision, TokenId
from orca.model.trust import ApiRole, Author, TokenGrant
from orca.model.units import WallMs
from orca.model.view import DeployRequest, LogRecord, MemberState, MemberView, NodeSilence
from tests.node.api.control import COPY, NODE, WEB, FakeControl, event, spec
from tests.node.api.raw import Told, make_api

OTHER = NodeId("n-other")
FAR_COPY = AllocationId("cccccccccccc")
ADMIN = Caller(actor="unix:0", origin="local", role=ApiRole.ADMIN)


class Pair:
    """Two nodes that reach each other over streams in memory, and a client of the first."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.here, self.there = FakeControl(), FakeControl(OTHER)
        self.there.copy = FAR_COPY
        self.there.access = self.here.access
        self.told, self.told_there = Told(), Told()
        self.is_down = False
        self.is_mute = False
        self.subjects: list[bytes] = []
        self._nursery = nursery
        self.api, trail = make_api(self.here, told=self.told, connect=self._connector(NODE, lambda: self.api_there))
        self.api_there, trail_there = make_api(
            self.there, told=self.told_there, connect=self._connector(OTHER, lambda: self.api)
        )
        nursery.start_soon(trail.run)
        nursery.start_soon(trail_there.run)
        self.here.placements = (self.placed(FAR_COPY, OTHER),)
        self.there.placements = (self.placed(COPY, NODE),)
        self.here.membership.nodes = (self.member(OTHER, "n2"),)
        self.there.membership.nodes = (self.member(NODE, "n1"),)

    @staticmethod
    def placed(copy: AllocationId, node: NodeId) -> Placed:
        return Placed(allocation=copy, service=WEB, slot=1, node=node, is_started=True)

    @staticmethod
    def member(node: NodeId, name: str, state: MemberState = MemberState.ALIVE) -> MemberView:
        return MemberView(
            name=name, id=node, address="10.0.0.2:7946", state=state, state_age_ms=90_000, heard_age_ms=12_000
        )

    def _connector(self, own: NodeId, target: Callable[[], Api]) -> Connector:
        @contextlib.asynccontextmanager
        async def connect(node: NodeId, subject: bytes) -> AsyncGenerator[trio.abc.Stream, None]:
            if self.is_down or node not in {NODE, OTHER}:
                raise NodeUnreachableError(f"{node} does not answer at 10.0.0.2:6881")
            self.subjects.append(subject)
            client, server = trio.testing.memory_stream_pair()
            if not self.is_mute:
                self._nursery.start_soon(target().serve_node, own, server, subject)
            try:
                yield client
            finally:
                await trio.aclose_forcefully(client)

        return connect

    def client(self, token: str = "") -> NodeClient:
        async def connect() -> trio.abc.Stream:
            client, server = trio.testing.memory_stream_pair()
            door = Door(self.api.trust, Peer(kind=PeerKind.TCP, address="127.0.0.1", port=1))
            self._nursery.start_soon(self.api.converse, server, door)
            return client

        return NodeClient(NodeAddress(label="here"), credentials=Credentials(token=token), connect=connect)


@pytest.fixture
async def pair(nursery: trio.Nursery) -> AsyncIterator[Pair]:
    made = Pair(nursery)
    for control in (made.here, made.there):
        await control.deploy(DeployRequest(specs=(spec("web"),)), by=Author(actor="test"))
        control.calls.clear()
    yield made
    nursery.cancel_scope.cancel()


async def lines(client: NodeClient, **query: object) -> list[LogRecord]:
    async with client.logs(**query) as records:  # type: ignore[arg-type]
        return [record async for record in records]


# Logs


async def test_logs_of_all_copies_come_from_whichever_node_is_asked(pair: Pair) -> None:
    found = await lines(pair.client(), service=WEB)
    assert [(one.allocation, one.text) for one in found] == [
        (COPY, "line 0"), (FAR_COPY, "line 0"), (COPY, "line 1"), (FAR_COPY, "line 1"), (COPY, "line 2"),
        (FAR_COPY, "line 2"),
    ]  # fmt: skip
    assert {one.allocation for one in await lines(pair.client(), allocation=FAR_COPY)} >= {FAR_COPY}


async def test_a_node_that_is_gone_is_named_with_the_age_of_what_is_known(pair: Pair) -> None:
    pair.is_down = True
    found = await lines(pair.client(), service=WEB)
    assert [one.text for one in found if one.allocation == COPY] == ["line 0", "line 1", "line 2"]
    (missing,) = [one for one in found if one.stream == "orca"]
    assert (missing.allocation, missing.slot) == (FAR_COPY, 1)
    assert missing.text == (
        "its output is missing: n2 (n-other) does not answer: n-other does not answer at 10.0.0.2:6881; "
        "it was last heard of 12s ago"
    )


async def test_a_node_that_gossip_has_buried_is_not_even_tried(pair: Pair) -> None:
    pair.here.membership.nodes = (pair.member(OTHER, "n2", MemberState.FAILED),)
    found = await lines(pair.client(), service=WEB)
    assert any("believed to have failed" in one.text for one in found)
    assert not pair.subjects


async def test_a_node_that_takes_the_call_and_says_nothing_is_waited_for_a_while_and_no_longer(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    pair.is_mute = True
    began_at = trio.current_time()
    found = await lines(pair.client(), service=WEB)
    assert trio.current_time() - began_at <= ANSWER_S + 0.5
    assert [one.stream for one in found].count("orca") == 1
    stats = await pair.client().stats(service=WEB)
    assert [bool(one.problem) for one in stats.stats] == [True, False]
    reply = await pair.client().events(is_everywhere=True)
    assert [one.node for one in reply.silent] == [OTHER]
    assert trio.current_time() - began_at <= 3 * (ANSWER_S + 0.5)


async def test_a_followed_log_goes_on_when_a_node_goes_and_comes_back(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    pair.is_down = True
    async with pair.client().logs(service=WEB, follow=True) as records:
        seen: list[LogRecord] = []
        with trio.fail_after(90):
            while len(seen) < 4:
                seen.append(await anext(records))
            assert [one.stream for one in seen].count("orca") == 1
            await trio.sleep(60)  # an outage is told once
            pair.is_down = False
            while len(seen) < 7:
                seen.append(await anext(records))
        assert [one.text for one in seen if one.allocation == FAR_COPY and one.stream != "orca"] == [
            "line 0",
            "line 1",
            "line 2",
        ]


async def test_who_leaves_a_followed_log_leaves_it_on_the_other_node_too(pair: Pair) -> None:
    async with pair.client().logs(service=WEB, follow=True) as records:
        for _ in range(6):
            await anext(records)
        assert (pair.here.open_logs, pair.there.open_logs) == (1, 1)
    with trio.fail_after(20):
        while pair.here.open_logs or pair.there.open_logs:
            await trio.testing.wait_all_tasks_blocked()


# Figures, commands


async def test_figures_come_from_all_nodes_and_those_that_are_missing_are_marked(pair: Pair) -> None:
    stats = (await pair.client().stats()).stats
    assert {(one.allocation, one.cpu_milli, one.problem) for one in stats} == {(COPY, 5, ""), (FAR_COPY, 5, "")}
    pair.is_down = True
    stats = (await pair.client().stats()).stats
    (missing,) = [one for one in stats if one.problem]
    assert (missing.allocation, missing.slot) == (FAR_COPY, 1)
    assert "last heard of 12s ago" in missing.problem


async def test_a_command_runs_inside_a_copy_of_another_node_and_is_audited_once(pair: Pair) -> None:
    async with pair.client().exec(FAR_COPY, ("cat",), stdin=True, env={"A": "1"}) as channel:
        assert await channel.receive() == (ExecOutput.STDERR, b"cat")
        await channel.send(b"there")
        assert await channel.receive() == (ExecOutput.STDOUT, b"there")
        await channel.resize(10, 20)
        assert await channel.receive() == (ExecOutput.STDOUT, b"10x20")
        await channel.close_stdin()
        assert await channel.exit_code() == 0
    assert [call[0] for call in pair.there.calls] == ["exec"]
    assert not pair.here.calls
    await pair.told.wait(1)
    assert [(one.action, one.subject) for one in pair.told.deeds] == [("exec", "web.2: cat")]
    assert not pair.told_there.deeds
    async with pair.client().exec(FAR_COPY, ("exit", "7")) as channel:
        assert await channel.exit_code() == 7


async def test_why_a_command_cannot_run_on_another_node_is_told(pair: Pair) -> None:
    pair.is_down = True
    async with pair.client().exec(FAR_COPY, ("cat",)) as channel:
        with pytest.raises(NodeUnreachableError, match="does not answer at"):
            await channel.receive()
    with pytest.raises(NotFoundError):
        async with pair.client().exec(AllocationId("dddddddddddd"), ("cat",)):
            pass


# Secrets


async def test_a_worker_has_a_member_seal_secrets_and_says_when_none_answers(pair: Pair) -> None:
    pair.here.secrets.elsewhere = (OTHER,)
    reply = await pair.client().set_secrets({SecretId("shop/db"): b"hunter2"})
    assert reply.changed == ("shop/db",)
    assert (pair.here.secrets.values, pair.there.secrets.values) == ({}, {"shop/db": b"hunter2"})
    assert (await pair.client().rotate_data_key()).secrets == 1
    pair.is_down = True
    with pytest.raises(NodeUnreachableError, match="is a worker and reaches nobody who can seal"):
        await pair.client().set_secrets({SecretId("shop/db"): b"other"})
    assert pair.here.secrets.values == {}


# Events


def decided(node: NodeId, sequence: int, at_ms: int, index: int) -> NodeEvent:
    return NodeEvent(
        sequence=sequence,
        at_ms=WallMs(at_ms),
        node=node,
        kind=EventKind.SERVICE_DEPLOYED,
        message=f"entry {index}",
        log_index=LogIndex(index),
    )


async def test_events_of_all_nodes_are_one_history(pair: Pair) -> None:
    own = msgspec.structs.replace(event(3), at_ms=WallMs(25))
    theirs = msgspec.structs.replace(event(2), node=OTHER, at_ms=WallMs(22), message="theirs")
    await pair.here.publish(decided(NODE, 1, 10, 7), decided(NODE, 2, 20, 8), own)
    await pair.there.publish(decided(OTHER, 1, 21, 8), theirs)
    reply = await pair.client().events(is_everywhere=True)
    assert [one.message for one in reply.events] == ["entry 7", "entry 8", "theirs", "event 3"]
    assert not reply.silent
    pair.is_down = True
    reply = await pair.client().events(is_everywhere=True)
    assert [one.message for one in reply.events] == ["entry 7", "entry 8", "event 3"]
    assert [words_of(one) for one in reply.silent] == [
        "n2 (n-other) does not answer: n-other does not answer at 10.0.0.2:6881; it was last heard of 12s ago"
    ]


async def test_events_of_all_nodes_are_followed_and_an_outage_is_said_once(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    await pair.here.publish(decided(NODE, 1, 10, 7))
    await pair.there.publish(decided(OTHER, 1, 11, 7))
    page = await pair.client().events(is_everywhere=True)
    silences: list[NodeSilence] = []
    async with pair.client().follow_events(later=page.later, told=silences.append) as events:
        await pair.here.publish(decided(NODE, 2, 20, 8))
        assert (await anext(events)).message == "entry 8"
        await pair.there.publish(decided(OTHER, 2, 21, 8), decided(OTHER, 3, 30, 9))
        assert (await anext(events)).message == "entry 9"
        pair.is_down = True
        pair.subjects.clear()
        pair.here.membership.nodes = (pair.member(OTHER, "n2", MemberState.LEFT),)
        await pair.here.publish(decided(NODE, 3, 40, 10))
        assert (await anext(events)).message == "entry 10"
    assert not silences


# For whom


async def test_the_other_node_judges_a_token_by_what_it_knows_itself(pair: Pair) -> None:
    token = pair.here.access.add("ci", ApiRole.VIEWER)
    assert len((await pair.client(token.text).stats()).stats) == 2
    pair.there.access = FakeControl().access  # there the token was revoked already
    pair.api_there, _ = make_api(pair.there)
    stats = (await pair.client(token.text).stats()).stats
    assert [one.problem.partition("does not answer: ")[2][:28] for one in stats if one.problem] == [
        "the right of token:ci has en"
    ]


async def test_a_call_is_passed_on_once(pair: Pair) -> None:
    """Two nodes that each believe the copy to be the other's ask each other no more than once."""
    pair.here.placements = (pair.placed(FAR_COPY, OTHER),)
    pair.there.placements = (pair.placed(FAR_COPY, NODE), pair.placed(COPY, NODE))
    pair.there.copy = AllocationId("eeeeeeeeeeee")
    await lines(pair.client(), service=WEB)
    await pair.client().stats()
    assert len(pair.subjects) == 2
    with pytest.raises(AssertionError, match="passed on once"):
        issue(msgspec.structs.replace(ADMIN, is_relayed=True), StateRevision(1))


def test_a_passport_says_who_asks_and_gives_no_more_than_its_reader_grants() -> None:
    caller = Caller(
        actor="token:ci",
        origin="tcp:10.0.0.9:1",
        role=ApiRole.ADMIN,
        token=TokenId("cixx"),
    )
    passport = read_passport(issue(caller, StateRevision(7)))
    assert passport.revision == 7
    grant = TokenGrant(token=TokenId("cixx"), name="ci", role=ApiRole.VIEWER, projects=(ProjectName("shop"),))
    admitted = admit(passport, OTHER, grant)
    assert (admitted.role, admitted.projects, admitted.is_relayed) == (ApiRole.VIEWER, ("shop",), True)
    assert admitted.origin == "tcp:10.0.0.9:1 via node:n-other"
    with pytest.raises(UnauthorizedError, match="token:ci has ended"):
        admit(passport, OTHER, None)
    with pytest.raises(UnauthorizedError):
        admit(passport, OTHER, msgspec.structs.replace(grant, token=TokenId("zzzz")))
    with pytest.raises(ForbiddenError, match="by which token"):
        admit(msgspec.structs.replace(passport, token=None), OTHER, None)
    assert admit(read_passport(issue(ADMIN, StateRevision(1))), OTHER, None).role is ApiRole.ADMIN


@pytest.mark.parametrize(
    "subject", [b"", b"\xc1", b"\x80", b"x" * (BYTES_MAX + 1), msgspec.msgpack.encode({"actor": 1})]
)
def test_a_subject_that_is_no_passport_is_refused(subject: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        read_passport(subject)


def test_what_a_newer_node_adds_to_a_passport_is_ignored() -> None:
    raw = msgspec.to_builtins(read_passport(issue(ADMIN, StateRevision(1))))
    assert isinstance(read_passport(msgspec.msgpack.encode({**raw, "newer": 1})), Passport)
