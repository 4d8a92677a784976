"""Real Serf agents and ours in one cluster: each believes of the other what is so."""

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from gossip.messages import Address
from gossip.serf import (
    EventRequested,
    LeaveRequested,
    QueryAnswer,
    QueryAnswered,
    QueryRequested,
    RotationEnded,
    RotationRequested,
    TagsChanged,
)
from tests.gossip.live.member import LiveMember, live_member
from tests.ports import free_port
from tests.serf_agent import HOST, SEEN_S, Agent, running_agent

pytestmark = [pytest.mark.serf, pytest.mark.integration, pytest.mark.slow]
KEY = bytes(range(32))
NEW_KEY = bytes(range(1, 33))
WAYS = pytest.mark.parametrize("key", [b"", KEY], ids=["plain", "sealed"])


def all_alive(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "alive")


@asynccontextmanager
async def mixed(key: bytes, agents: int = 3, ours: int = 3) -> AsyncIterator[tuple[list[Agent], list[LiveMember]]]:
    """So many of each, all of which see all."""
    encrypt = base64.b64encode(key).decode() if key else ""
    async with AsyncExitStack() as stack:
        real: list[Agent] = []
        for number in range(agents):
            join = (real[0].address,) if real else ()
            starting = running_agent(f"real{number}", encrypt=encrypt, join=join, tags=(f"place=r{number}",))
            real.append(await stack.enter_async_context(starting))
        own = [
            await stack.enter_async_context(
                live_member(f"ours{number}", keys=(key,) if key else (), tags={"place": f"o{number}"})
            )
            for number in range(ours)
        ]
        for number, member in enumerate(own):
            await member.join(Address(HOST, real[number % agents].port))
        names = all_alive(*(agent.name for agent in real), *(member.name for member in own))
        for member in own:
            await member.sees(names)
        for agent in real:
            await agent.sees(names)
        yield real, own


async def heard_by_all(agent: Agent, *words: str, until: str = "") -> str:
    """What `serf WORDS...` says once nobody missed it, at the fifth attempt at the latest.

    A query is not repeated by push/pull, and the `local` profile sends each broadcast twice: among four members
    one in 27 queries misses somebody. The real command fails then, and whoever gave it gives it again.
    """
    said = ""
    for attempt in range(5):
        try:
            said = " ".join((await agent.command(*words)).split())
        except AssertionError as error:
            if attempt == 4 or "nodes reported success" not in str(error):
                raise
            continue
        if until in said:
            return said
    raise AssertionError(f"serf {words} never said {until!r}: {said}")


@WAYS
async def test_all_list_all_with_their_tags(key: bytes) -> None:
    async with mixed(key) as (real, ours):
        listed = await real[0].command("members")
        assert "place=o2" in next(line for line in listed.splitlines() if line.startswith("ours2"))
        member = ours[0].machine.serf.member("real1")
        assert member is not None
        assert member.tags == {"place": "r1"}


@WAYS
async def test_events_travel_both_ways(key: bytes) -> None:
    async with mixed(key, 2, 2) as (real, ours):
        await real[0].command("event", "-coalesce=false", "from-real", "some words")
        for member in ours:
            await member.hears("from-real", b"some words")
        ours[1].driver.tell(EventRequested(name="from-ours", payload=b"x"))
        await real[0].hears("from-ours")
        await real[1].hears("from-ours")
        await ours[0].hears("from-ours", b"x")
        assert ours[0].events().count(("from-real", b"some words")) == 1


@WAYS
async def test_queries_are_answered_both_ways(key: bytes) -> None:
    async with mixed(key, 2, 2) as (real, ours):
        for member in ours:

            def answer(query: object, member: LiveMember = member) -> None:
                member.driver.tell(QueryAnswered(key=query.key, payload=b"here is " + member.name.encode()))  # type: ignore[attr-defined]

            member.on_query = answer
        said = await heard_by_all(real[0], "query", "-timeout=1s", "where", until="Total Responses: 2")
        assert "here is ours0" in said
        assert "here is ours1" in said
        ours[0].driver.tell(QueryRequested(handle=1, name="where", timeout_s=3.0))
        await ours[0].until(
            lambda: [one for one in ours[0].news if isinstance(one, QueryAnswer) and one.node == "ours1"], "an answer"
        )


async def test_every_member_is_reachable_for_a_real_agent() -> None:
    async with mixed(b"", 2, 3) as (real, _ours):
        said = await real[0].command("reachability", timeout_s=60)
        assert "All nodes are reachable" in said or "Successfully contacted all live nodes" in said, said


async def test_tags_change_both_ways() -> None:
    async with mixed(b"", 1, 2) as (real, ours):
        await real[0].command("tags", "-set", "role=db")
        await ours[0].until(
            lambda: (ours[0].machine.serf.member("real0") or pytest.fail("gone")).tags.get("role") == "db",
            "the new tag",
        )
        ours[1].driver.tell(TagsChanged(tags={"orca": "test", "role": "web"}))
        await real[0].says("members", lambda said: "role=web" in said)


@WAYS
async def test_a_graceful_leave_is_seen_as_such_on_both_sides(key: bytes) -> None:
    async with mixed(key, 2, 2) as (real, ours):
        ours[0].driver.tell(LeaveRequested())
        await real[0].until_sees("ours0", "left")
        await ours[0].leaves()
        await real[1].command("leave")
        await ours[1].sees({"real0": "alive", "real1": "left", "ours0": "left", "ours1": "alive"})
        await real[0].sees({"real0": "alive", "real1": "left", "ours0": "left", "ours1": "alive"})


async def test_a_kill_is_seen_as_a_failure_on_both_sides() -> None:
    async with mixed(KEY, 3, 2) as (real, ours):
        async with live_member("brief", keys=(KEY,)) as brief:
            await brief.join(ours[0].address)
            for agent in real[:2]:  # to one that never heard of it nobody tells that it is gone
                await agent.until_sees("brief", "alive")
            await real[2].kill()
        for agent in real[:2]:
            await agent.logs("EventMemberFailed: brief")
        for member in ours:
            await member.sees({**all_alive("real0", "real1", "ours0", "ours1"), "real2": "failed", "brief": "failed"})


async def test_keys_are_rotated_by_the_real_command() -> None:
    async with mixed(KEY, 2, 2) as (real, ours):
        old, new = (base64.b64encode(key).decode() for key in (KEY, NEW_KEY))
        await heard_by_all(real[0], "keys", "-list", until=f"{old} [4/4]")
        await heard_by_all(real[0], "keys", "-install", new)
        await heard_by_all(real[0], "keys", "-use", new)
        await heard_by_all(real[0], "keys", "-remove", old)
        said = await heard_by_all(real[0], "keys", "-list", until=f"{new} [4/4]")
        assert old not in said
        for member in ours:
            assert member.ring is not None
            assert list(member.ring.keys) == [NEW_KEY]
        ours[0].driver.tell(EventRequested(name="under-the-new-key"))
        await real[1].hears("under-the-new-key")


async def test_keys_are_rotated_by_us_under_real_agents() -> None:
    async with mixed(KEY, 2, 2) as (real, ours):
        ours[1].driver.tell(RotationRequested(key=NEW_KEY))

        def ends() -> list[RotationEnded]:
            return [one for one in ours[1].news if isinstance(one, RotationEnded)]

        await ours[1].until(ends, "the end of the rotation", 60)
        assert ends()[0].is_done, ends()[0]
        said = await heard_by_all(real[0], "keys", "-list", until=f"{base64.b64encode(NEW_KEY).decode()} [4/4]")
        assert base64.b64encode(KEY).decode() not in said
        await real[0].command("event", "-coalesce=false", "under-the-new-key", "")
        await ours[0].hears("under-the-new-key", b"")


async def test_an_agent_finds_back_by_its_snapshot(tmp_path: Path) -> None:
    port, snapshot = free_port(), tmp_path / "serf.snapshot"
    extra = (f"-snapshot={snapshot}", "-rejoin")
    async with live_member("ours0") as ours:
        async with running_agent("real0", port=port, extra=extra, join=(str(ours.address),)):
            with trio.fail_after(SEEN_S):
                while (
                    "alive: ours0" not in snapshot.read_text()
                ):  # it writes when something happens, half a second later
                    ours.driver.tell(EventRequested(name="something"))
                    await trio.sleep(0.2)
        async with running_agent("real0", port=port, extra=extra) as again:
            await again.logs("Re-joined to previously known node: ours0")
            await ours.sees(all_alive("ours0", "real0"))
            await again.sees(all_alive("ours0", "real0"))
