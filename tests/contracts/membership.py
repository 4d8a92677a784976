"""What every `Membership` must do, whoever keeps it.

An implementation gives `make`: a context with a new cluster, sealed by `keys` when there are
some, in which members can be started. Each check has a cluster of its own.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias, TypeVar

import pytest
import trio

from gossip.membership import (
    Acked,
    Answered,
    EventReceived,
    Finished,
    KeyOperation,
    Member,
    MembersChanged,
    Membership,
    MembershipNews,
    MemberStatus,
    QueryNews,
    QueryReceived,
    Question,
    StatusChange,
)
from gossip.messages import NodeFilter, TagFilter
from orca.errors import InvalidRequestError, NodeUnreachableError, NotFoundError

PATIENCE_S = 45.0
"""How long a check waits for what must come; long, because a shared computer may be busy."""
FIRST_KEY = bytes(range(16))
SECOND_KEY = bytes(range(16, 32))
T = TypeVar("T", MembersChanged, EventReceived, QueryReceived)


class Running(Protocol):
    """A member that was started."""

    @property
    def membership(self) -> Membership:
        """What is under test."""
        ...

    @property
    def address(self) -> str:
        """Where it gossips, as `join` takes it."""
        ...

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        ...


class Cluster(Protocol):
    """Starts members that gossip on loopback, with failure detection of seconds; it ends them all."""

    async def start(self, node: str, *, tags: Mapping[str, str] | None = None) -> Running:
        """A member that has met nobody yet."""
        ...


MakeCluster: TypeAlias = Callable[[Sequence[bytes]], AbstractAsyncContextManager[Cluster]]


class Recorder:
    """Takes a member's news and waits for those that a check needs."""

    def __init__(self, running: Running) -> None:
        self.news: list[MembershipNews] = []
        self.membership = running.membership
        self._changed = trio.Event()
        self.leave = self.membership.subscribe(self._take)

    def _take(self, news: MembershipNews) -> None:
        self.news.append(news)
        self._changed.set()

    async def until(self, is_so: Callable[[], object], what: str) -> None:
        """Returns when `is_so`; looked at after each piece of news, and ten times a second."""
        with trio.move_on_after(PATIENCE_S):
            while True:
                if is_so():
                    return
                self._changed = trio.Event()
                with trio.move_on_after(0.1):
                    await self._changed.wait()
        raise AssertionError(f"{what} never came; it sees {self.membership.members()} and was told {self.news}")

    def of(self, kind: type[T]) -> list[T]:
        return [news for news in self.news if isinstance(news, kind)]

    async def sees(self, **expected: MemberStatus) -> None:
        """Returns when its members are these."""

        def statuses() -> dict[str, MemberStatus]:
            return {member.node: member.status for member in self.membership.members()}

        await self.until(lambda: statuses() == expected, f"{expected}")

    async def is_told(self, change: StatusChange, node: str) -> Member:
        """The member as it was when it was told that this had happened."""

        def found() -> list[Member]:
            told = [news.members for news in self.of(MembersChanged) if news.change is change]
            return [member for members in told for member in members if member.node == node]

        await self.until(found, f"{change} of {node}")
        return found()[-1]


def by_name(running: Running) -> dict[str, Member]:
    return {member.node: member for member in running.membership.members()}


async def pair(cluster: Cluster, **tags: str) -> tuple[Running, Running]:
    """Two members, `a` and `b` with `tags`, who know each other."""
    one, other = await cluster.start("a"), await cluster.start("b", tags=tags)
    assert await other.membership.join([one.address]) == 1
    for running in (one, other):
        await Recorder(running).sees(a=MemberStatus.ALIVE, b=MemberStatus.ALIVE)
    return one, other


async def check_a_member_alone_knows_itself(cluster: Cluster) -> None:
    running = await cluster.start("a", tags={"zone": "east", "word": "ü"})
    assert running.membership.node == "a"
    (member,) = running.membership.members()
    assert (member.node, member.status) == ("a", MemberStatus.ALIVE)
    assert {tag: member.tags[tag] for tag in ("zone", "word")} == {"zone": "east", "word": "ü"}
    assert str(member.address) == running.address
    assert len(member.version) == 6
    with pytest.raises(NodeUnreachableError):
        await running.membership.join(["127.0.0.1:1"])


async def check_joining_is_seen_by_both(cluster: Cluster) -> None:
    one, other = await cluster.start("a", tags={"role": "web"}), await cluster.start("b", tags={"role": "db"})
    first, second = Recorder(one), Recorder(other)
    assert await other.membership.join([one.address]) == 1
    assert (await first.is_told(StatusChange.JOINED, "b")).tags["role"] == "db"
    assert (await second.is_told(StatusChange.JOINED, "a")).tags["role"] == "web"
    await first.sees(a=MemberStatus.ALIVE, b=MemberStatus.ALIVE)
    await second.sees(a=MemberStatus.ALIVE, b=MemberStatus.ALIVE)
    assert str(by_name(one)["b"].address) == other.address
    assert list(by_name(one)) == ["a", "b"]


async def check_changed_tags_are_seen_by_both(cluster: Cluster) -> None:
    one, other = await pair(cluster, role="db", zone="east")
    first = Recorder(one)
    await other.membership.change_tags({"role": "cache", "new": "1"}, ["zone"])
    tags = by_name(other)["b"].tags
    assert (tags["role"], tags["new"]) == ("cache", "1")
    assert "zone" not in tags
    assert (await first.is_told(StatusChange.UPDATED, "b")).tags == tags
    with pytest.raises(InvalidRequestError):
        await other.membership.change_tags({"long": "x" * 600})
    assert by_name(other)["b"].tags == tags


async def check_failure_is_seen_and_can_be_declared_final(cluster: Cluster) -> None:
    one, other = await pair(cluster)
    recorder = Recorder(one)
    await other.kill()
    assert (await recorder.is_told(StatusChange.FAILED, "b")).status is MemberStatus.FAILED
    await recorder.sees(a=MemberStatus.ALIVE, b=MemberStatus.FAILED)
    with pytest.raises(NotFoundError):
        await one.membership.force_leave("nobody")
    await one.membership.force_leave("b")
    await recorder.is_told(StatusChange.LEFT, "b")
    await recorder.sees(a=MemberStatus.ALIVE, b=MemberStatus.LEFT)
    await one.membership.force_leave("b", is_prune=True)
    await recorder.is_told(StatusChange.REAPED, "b")
    await recorder.sees(a=MemberStatus.ALIVE)


async def check_leaving_is_not_failing(cluster: Cluster) -> None:
    one, other = await pair(cluster)
    recorder = Recorder(one)
    with trio.fail_after(PATIENCE_S):
        await other.membership.leave()
    await recorder.is_told(StatusChange.LEFT, "b")
    await recorder.sees(a=MemberStatus.ALIVE, b=MemberStatus.LEFT)
    assert all(news.change is not StatusChange.FAILED for news in recorder.of(MembersChanged))


async def check_events_reach_everybody_once(cluster: Cluster) -> None:
    one, other = await pair(cluster)
    first, second = Recorder(one), Recorder(other)
    await one.membership.send_event("deploy", b"\xff\x00", is_coalescable=True)
    await other.membership.send_event("last")
    for recorder in (first, second):
        await recorder.until(lambda: len(recorder.of(EventReceived)) >= 2, "both events")  # noqa: B023 - called here
        events = {news.name: news for news in recorder.of(EventReceived)}
        assert events["deploy"].payload == b"\xff\x00"
        assert events["deploy"].is_coalescable
        assert not events["last"].is_coalescable
        assert len(recorder.of(EventReceived)) == 2
    with pytest.raises(InvalidRequestError):
        await one.membership.send_event("long", b"x" * 20_000)


async def check_queries_are_answered(cluster: Cluster) -> None:
    one, other = await pair(cluster, role="db")
    recorder, elsewhere = Recorder(other), Recorder(one)
    found: list[QueryNews] = []
    filters = (NodeFilter(nodes=("b", "nobody")), TagFilter(tag="role", expression="^d"))
    question = Question(name="load", payload=b"?", filters=filters, wants_ack=True, timeout_s=3.0)
    await one.membership.ask(question, found.append)
    await recorder.until(lambda: recorder.of(QueryReceived), "the query")
    (query,) = recorder.of(QueryReceived)
    assert (query.name, query.payload) == ("load", b"?")
    await other.membership.respond(query.query_id, b"low\xfe")
    await recorder.until(lambda: Finished() in found, "the end of the query")
    assert found[-1] == Finished()
    assert set(found[:-1]) == {Acked("b"), Answered("b", b"low\xfe")}
    assert not elsewhere.of(QueryReceived), "the filters left a out"
    with pytest.raises(NotFoundError):
        await other.membership.respond(query.query_id + 1, b"")
    with pytest.raises(InvalidRequestError):
        await one.membership.ask(Question(name="_serf_list-keys"), found.append)


async def check_nobody_listens_after_a_stop(cluster: Cluster) -> None:
    one, other = await pair(cluster)
    recorder = Recorder(other)
    found: list[QueryNews] = []
    stop = await one.membership.ask(Question(name="first", timeout_s=2.0), found.append)
    await recorder.until(lambda: recorder.of(QueryReceived), "the query")
    stop()
    recorder.leave()
    await other.membership.respond(recorder.of(QueryReceived)[0].query_id, b"late")
    ended: list[QueryNews] = []
    await one.membership.ask(Question(name="second", timeout_s=1.0), ended.append)
    await recorder.until(lambda: ended, "the end of the second query")
    assert found == []
    assert len(recorder.of(QueryReceived)) == 1, "it no longer subscribes"


async def check_keys_are_listed_and_replaced(cluster: Cluster) -> None:
    one, other = await pair(cluster)
    listed = await one.membership.change_keys(KeyOperation.LIST)
    assert listed.is_complete, listed
    assert listed.keys == {base64.b64encode(FIRST_KEY).decode(): 2}
    for operation in (KeyOperation.INSTALL, KeyOperation.USE):
        assert (await one.membership.change_keys(operation, SECOND_KEY)).is_complete
    assert (await other.membership.change_keys(KeyOperation.REMOVE, FIRST_KEY)).is_complete
    listed = await other.membership.change_keys(KeyOperation.LIST)
    assert listed.keys == {base64.b64encode(SECOND_KEY).decode(): 2}
    wrong = await one.membership.change_keys(KeyOperation.USE, FIRST_KEY)
    assert set(wrong.failures) == {"a", "b"}
    assert not wrong.is_complete


async def check_a_plain_cluster_has_no_keys(cluster: Cluster) -> None:
    one, _ = await pair(cluster)
    for operation in (KeyOperation.LIST, KeyOperation.INSTALL):
        with pytest.raises(InvalidRequestError, match="encrypt"):
            await one.membership.change_keys(operation, FIRST_KEY if operation is KeyOperation.INSTALL else b"")


Check: TypeAlias = Callable[[Cluster], Awaitable[None]]
MEMBERSHIP_CHECKS: tuple[Check, ...] = (
    check_a_member_alone_knows_itself,
    check_joining_is_seen_by_both,
    check_changed_tags_are_seen_by_both,
    check_failure_is_seen_and_can_be_declared_final,
    check_leaving_is_not_failing,
    check_events_reach_everybody_once,
    check_queries_are_answered,
    check_nobody_listens_after_a_stop,
    check_a_plain_cluster_has_no_keys,
)
SEALED_CHECKS: tuple[Check, ...] = (check_keys_are_listed_and_replaced,)


async def run_check(make: MakeCluster, check: Check) -> None:
    """One check in a cluster of its own."""
    async with make((FIRST_KEY,) if check in SEALED_CHECKS else ()) as cluster:
        await check(cluster)


async def check_membership(make: MakeCluster) -> None:
    """Run the whole suite."""
    for check in (*MEMBERSHIP_CHECKS, *SEALED_CHECKS):
        await run_check(make, check)
