"""Membership kept by a real Serf agent: the contract, and what happens when the agent goes and comes."""

import base64
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from gossip.membership import EventReceived, MembersChanged, MembershipNews, MemberStatus, Question, StatusChange
from gossip.messages import Address
from gossip.rpc.delegate import SerfMembership
from gossip.rpc.delegate.differences import by_name, differences
from orca.errors import ForbiddenError, NotAvailableError, NotFoundError
from tests.contracts.membership import MEMBERSHIP_CHECKS, SEALED_CHECKS, Check, run_check
from tests.gossip.rpc.memory_backend import AUTH_KEY as OUR_KEY
from tests.gossip.rpc.memory_backend import comes, make_member, served
from tests.serf_agent import AUTH_KEY, HOST, Agent, running_agent


class AgentMember:
    """A real agent with our membership in front of it."""

    def __init__(self, agent: Agent, membership: SerfMembership) -> None:
        self.agent = agent
        self.membership = membership

    @property
    def address(self) -> str:
        return self.agent.address

    async def kill(self) -> None:
        await self.agent.kill()


class AgentCluster:
    def __init__(self, stack: AsyncExitStack, keys: Sequence[bytes]) -> None:
        self._stack = stack
        self._encrypt = base64.b64encode(keys[0]).decode() if keys else ""

    async def start(self, node: str, *, tags: Mapping[str, str] | None = None) -> AgentMember:
        pairs = [f"{tag}={value}" for tag, value in (tags or {}).items()]
        agent = await self._stack.enter_async_context(running_agent(node, encrypt=self._encrypt, tags=pairs))
        return AgentMember(agent, await self._stack.enter_async_context(following(agent)))


@asynccontextmanager
async def following(agent: Agent) -> AsyncIterator[SerfMembership]:
    membership = SerfMembership(Address(HOST, agent.rpc_port), AUTH_KEY, random.Random(agent.name))
    async with trio.open_nursery() as nursery:
        with trio.fail_after(20):
            await nursery.start(membership.run)
        yield membership
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def agent_cluster(keys: Sequence[bytes]) -> AsyncIterator[AgentCluster]:
    async with AsyncExitStack() as stack:
        yield AgentCluster(stack, keys)


@pytest.mark.serf
@pytest.mark.parametrize("check", [*MEMBERSHIP_CHECKS, *SEALED_CHECKS], ids=lambda check: check.__name__)
async def test_an_agent_keeps_the_contract(check: Check) -> None:
    await run_check(agent_cluster, check)


@pytest.mark.serf
async def test_an_agent_that_goes_is_dialled_until_it_is_back_and_the_change_is_told() -> None:
    async with running_agent("a", tags=["life=1"]) as first, following(first) as membership:
        news: list[MembershipNews] = []
        membership.subscribe(news.append)
        await first.kill()
        await comes(lambda: not membership.is_connected)
        with pytest.raises(NotAvailableError, match=r"ended the connection|broke|no Serf agent"):
            await membership.send_event("lost")
        assert [member.node for member in membership.members()] == ["a"], "the last list stands"
        extra = [f"-rpc-addr={HOST}:{first.rpc_port}"]
        async with running_agent("a", tags=["life=2"], port=first.port, extra=extra):
            await comes(lambda: membership.is_connected, 30)
            assert membership.members()[0].tags == {"life": "2"}
            assert [one.change for one in news if isinstance(one, MembersChanged)] == [StatusChange.UPDATED]
            await membership.send_event("back")
            await comes(lambda: any(isinstance(one, EventReceived) for one in news))


@pytest.mark.integration
async def test_a_wrong_key_ends_it_at_once() -> None:
    async with served() as at:
        with pytest.raises(ForbiddenError):
            await SerfMembership(at.address, "wrong", random.Random(1)).run()


@pytest.mark.integration
async def test_an_answer_does_not_reach_a_query_of_another_connection() -> None:
    async with served() as at:
        membership = SerfMembership(at.address, OUR_KEY, random.Random(1))
        async with trio.open_nursery() as nursery:
            await nursery.start(membership.run)
            with pytest.raises(NotFoundError, match="connection"):
                await membership.respond(7, b"")
            await membership.respond(1 << 40 | 7, b"here")
            assert at.backend.pending[7] == b"here"
            nursery.cancel_scope.cancel()
        with pytest.raises(NotAvailableError):
            await membership.ask(Question(name="q"), print)


def test_differences_tell_how_one_list_became_the_other() -> None:
    before = by_name(
        [
            make_member("stays"),
            make_member("dies"),
            make_member("goes"),
            make_member("returns", status=MemberStatus.FAILED),
            make_member("buried", status=MemberStatus.FAILED),
            make_member("forgotten", status=MemberStatus.LEFT),
            make_member("packs"),
            make_member("tagged"),
        ]
    )
    after = by_name(
        [
            make_member("stays"),
            make_member("dies", status=MemberStatus.FAILED),
            make_member("goes", status=MemberStatus.LEFT),
            make_member("returns"),
            make_member("buried", status=MemberStatus.LEFT),
            make_member("packs", status=MemberStatus.LEAVING),
            make_member("tagged", zone="east"),
            make_member("new"),
            make_member("new-dead", status=MemberStatus.FAILED),
        ]
    )
    told = {change.change: [member.node for member in change.members] for change in differences(before, after)}
    assert told == {
        StatusChange.JOINED: ["new", "returns"],
        StatusChange.FAILED: ["dies", "new-dead"],
        StatusChange.LEFT: ["buried", "goes"],
        StatusChange.UPDATED: ["tagged"],
        StatusChange.REAPED: ["forgotten"],
    }
    assert differences(after, after) == []
