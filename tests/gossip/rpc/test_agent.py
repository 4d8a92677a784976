"""Every command of the client against a real Serf agent."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from gossip.membership import (
    Acked,
    Answered,
    EventReceived,
    KeyOperation,
    MembersChanged,
    MemberStatus,
    QueryReceived,
    Question,
    StatusChange,
)
from gossip.messages import Address, NodeFilter, TagFilter
from gossip.rpc.driver import RpcClient, connect
from orca.errors import ForbiddenError, InvalidRequestError, NodeUnreachableError, NotFoundError
from tests.serf_agent import AUTH_KEY, HOST, Agent, running_agent

pytestmark = pytest.mark.serf

OLD_KEY = bytes(range(16))
NEW_KEY = bytes(range(16, 32))


@asynccontextmanager
async def client_of(agent: Agent) -> AsyncIterator[RpcClient]:
    with trio.fail_after(60):
        async with connect(Address(HOST, agent.rpc_port), AUTH_KEY) as client:
            yield client


async def until_status(client: RpcClient, node: str, status: MemberStatus | None) -> None:
    """Returns when the agent believes that; None is a member forgotten."""
    with trio.fail_after(30):
        while True:
            if {member.node: member.status for member in await client.members()}.get(node) is status:
                return
            await trio.sleep(0.05)


async def test_members_tags_and_filters_are_told_as_serf_knows_them() -> None:
    async with running_agent("rpc-a", tags=["zone=east"]) as agent, client_of(agent) as client:
        (member,) = await client.members()
        assert member.node == "rpc-a"
        assert member.address == Address(HOST, agent.port)
        assert (member.tags, member.status) == ({"zone": "east"}, MemberStatus.ALIVE)
        assert len(member.version) == 6
        assert member.version[0] >= 1

        await client.change_tags({"tier": "web", "word": "ü"}, ["zone"])
        assert (await client.members())[0].tags == {"tier": "web", "word": "ü"}
        assert len(await client.members_filtered({"tier": "w.b"}, status="alive", node="rpc-.")) == 1
        assert await client.members_filtered({"tier": "w"}) == ()
        assert await client.members_filtered(status="failed") == ()
        with pytest.raises(InvalidRequestError, match="512 bytes"):
            await client.change_tags({"long": "x" * 600})


async def test_stats_and_coordinates_are_told() -> None:
    async with running_agent("rpc-a", tags=["zone=east"]) as agent, client_of(agent) as client:
        stats = await client.stats()
        assert stats["agent"]["name"] == "rpc-a"
        assert stats["tags"] == {"zone": "east"}
        assert stats["serf"]["members"] == "1"
        coordinate = await client.coordinate("rpc-a")
        assert coordinate is not None
        assert len(coordinate.vector) == 8
        assert coordinate.height > 0
        assert await client.coordinate("nobody") is None


async def test_agents_join_fail_are_forced_out_and_leave() -> None:
    async with running_agent("rpc-a") as one, running_agent("rpc-b") as other, client_of(one) as client:
        assert await client.join([other.address]) == 1
        await until_status(client, "rpc-b", MemberStatus.ALIVE)
        await other.kill()
        await until_status(client, "rpc-b", MemberStatus.FAILED)
        await client.force_leave("rpc-b")
        await until_status(client, "rpc-b", MemberStatus.LEFT)
        await client.force_leave("rpc-b", is_prune=True)
        await until_status(client, "rpc-b", None)
        with pytest.raises(NodeUnreachableError, match="refuses `join`"):
            await client.join([f"{HOST}:1"])
        async with running_agent("rpc-c", join=[one.address]) as third:
            await until_status(client, "rpc-c", MemberStatus.ALIVE)
            async with client_of(third) as theirs:
                await theirs.leave()
            await until_status(client, "rpc-c", MemberStatus.LEFT)
            with trio.fail_after(10):
                await third.process.wait()


async def test_events_and_changes_arrive_by_stream_and_only_those_asked_for() -> None:
    async with running_agent("rpc-a") as one, running_agent("rpc-b") as other, client_of(one) as client:
        async with client.follow_events() as everything, client.follow_events("user:wanted,member-join") as chosen:
            await client.send_event("other", b"1")
            await client.send_event("wanted", b"\xff\x00", is_coalescable=True)
            await client.join([other.address])
            events: list[EventReceived] = []
            has_joined = False
            while not has_joined or len(events) < 2:  # an agent tells what can be coalesced when it likes
                news = await everything.receive()
                events += [news] if isinstance(news, EventReceived) else []
                has_joined |= isinstance(news, MembersChanged) and _joined("rpc-b", news)
            assert sorted((news.name, news.payload, news.is_coalescable) for news in events) == [
                ("other", b"1", False),
                ("wanted", b"\xff\x00", True),
            ]
            some = [await chosen.receive(), await chosen.receive()]
            assert [type(news) for news in some].count(EventReceived) == 1
        with pytest.raises(InvalidRequestError, match="Invalid event filter"):
            async with client.follow_events("no-such-event"):
                pass
        with pytest.raises(InvalidRequestError, match="512 bytes"):
            await client.send_event("long", b"x" * 2000)
        assert len(await client.members()) == 2, "the connection still works"


def _joined(node: str, news: MembersChanged) -> bool:
    return news.change is StatusChange.JOINED and node in [member.node for member in news.members]


async def test_queries_are_asked_and_answered_by_clients() -> None:
    question = Question(
        name="load",
        payload=b"?",
        filters=(NodeFilter(nodes=("rpc-b",)), TagFilter(tag="role", expression="^d")),
        wants_ack=True,
        relay_factor=1,
        timeout_s=3.0,
    )
    async with (
        running_agent("rpc-a") as one,
        running_agent("rpc-b", join=[one.address], tags=["role=db"]) as other,
        client_of(one) as asker,
        client_of(other) as answerer,
    ):
        await until_status(asker, "rpc-b", MemberStatus.ALIVE)
        async with answerer.follow_events("query:load") as questions, asker.ask(question) as answers:
            received = await questions.receive()
            assert isinstance(received, QueryReceived)
            assert (received.name, received.payload) == ("load", b"?")
            await answerer.respond(received.query_id, b"low\xfe")
            got = [news async for news in answers]
            assert set(got) == {Acked("rpc-b"), Answered("rpc-b", b"low\xfe")}
        with pytest.raises(NotFoundError, match="No pending queries"):
            await answerer.respond(received.query_id + 7, b"")
        with pytest.raises(InvalidRequestError, match="_serf_"):
            async with asker.ask(Question(name="_serf_conflict")):
                pass


async def test_keys_are_installed_used_removed_and_listed() -> None:
    encrypt = base64.b64encode(OLD_KEY).decode()
    async with (
        running_agent("rpc-a", encrypt=encrypt) as one,
        running_agent("rpc-b", encrypt=encrypt, join=[one.address]),
        client_of(one) as client,
    ):
        await until_status(client, "rpc-b", MemberStatus.ALIVE)
        for operation in (KeyOperation.INSTALL, KeyOperation.USE):
            report = await client.change_keys(operation, NEW_KEY)
            assert report.is_complete, report
            assert report.expected == report.answered == 2
        listed = await client.change_keys(KeyOperation.LIST)
        assert listed.keys == {encrypt: 2, base64.b64encode(NEW_KEY).decode(): 2}
        assert (await client.change_keys(KeyOperation.REMOVE, OLD_KEY)).is_complete
        assert list((await client.change_keys(KeyOperation.LIST)).keys) == [base64.b64encode(NEW_KEY).decode()]
        wrong = await client.change_keys(KeyOperation.USE, OLD_KEY)
        assert not wrong.is_complete
        assert set(wrong.failures) == {"rpc-a", "rpc-b"}


async def test_the_log_is_followed_from_its_last_lines_on() -> None:
    async with running_agent("rpc-a") as agent, client_of(agent) as client, client.follow_log("debug") as lines:
        with trio.fail_after(10):
            while "Serf agent starting" not in await lines.receive():
                pass
            await client.send_event("noticed")
            while "noticed" not in await lines.receive():
                pass
        with pytest.raises(InvalidRequestError, match="Monitor already exists"):
            async with client.follow_log("info"):
                pass


async def follow_until_killed(client: RpcClient, agent: Agent) -> None:
    """Kill the agent while its events are followed."""
    async with client.follow_events() as news:
        await agent.kill()
        with trio.fail_after(10):
            async for _ in news:
                pass


async def test_a_wrong_key_or_none_is_forbidden_and_a_dead_agent_is_unreachable() -> None:
    async with running_agent("rpc-a") as agent:
        address = Address(HOST, agent.rpc_port)
        with pytest.raises(ForbiddenError, match="Invalid authentication token"):
            async with connect(address, "wrong"):
                pass
        async with connect(address) as client:
            with pytest.raises(ForbiddenError, match="Authentication required"):
                await client.stats()
            with pytest.raises(ForbiddenError, match="Authentication required"):
                await client.members()
        async with connect(address, AUTH_KEY) as client:
            with pytest.raises(NodeUnreachableError):
                await follow_until_killed(client, agent)
            with pytest.raises(NodeUnreachableError):
                await client.members()
        with pytest.raises(NodeUnreachableError, match="no Serf agent answers"):
            async with connect(address, AUTH_KEY):
                pass
