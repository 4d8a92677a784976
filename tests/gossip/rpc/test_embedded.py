"""Our own gossip behind the same interface: the contract, and Serf's tools against our port in a mixed cluster."""

import base64
import os
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from gossip.codec import Keyring, PacketCodec
from gossip.driver import GossipDriver, open_sockets
from gossip.machine import ORCA_TAG, Gossip, config_of
from gossip.membership import EventReceived, MembershipNews, MemberStatus, QueryReceived
from gossip.messages import Address
from gossip.rpc.embedded import GossipMembership
from gossip.rpc.server import RpcServer
from gossip.swim import LOCAL
from node.sources import SystemClock
from orca.errors import InvalidRequestError
from tests.contracts.membership import MEMBERSHIP_CHECKS, SEALED_CHECKS, Check, Recorder, run_check
from tests.gossip.rpc.memory_backend import AUTH_KEY, comes
from tests.serf_agent import HOST, running_agent


class OwnMember:
    """A member of ours, which `kill` ends without a word."""

    def __init__(self, membership: GossipMembership, address: Address, scope: trio.CancelScope) -> None:
        self.membership = membership
        self.place = address
        self._scope = scope

    @property
    def address(self) -> str:
        return str(self.place)

    async def kill(self) -> None:
        self._scope.cancel()


@asynccontextmanager
async def own_member(
    node: str, *, keys: Sequence[bytes] = (), tags: Mapping[str, str] | None = None
) -> AsyncIterator[OwnMember]:
    clock = SystemClock()
    ring = Keyring(list(keys), lambda: os.urandom(12)) if keys else None
    sockets = await open_sockets(HOST, 0)
    machine = Gossip(
        config_of(LOCAL),
        node,
        sockets.address,
        {ORCA_TAG: "test", **(tags or {})},
        PacketCodec(ring),
        random.Random(node),
        clock.now(),
        life=clock.wall(),
    )

    def tell(event: object) -> None:
        driver.tell(event)

    membership = GossipMembership(machine, tell, version="0", is_encrypted=bool(keys), reserved_tags=(ORCA_TAG,))
    driver = GossipDriver(machine, clock, publish=membership.take)
    async with trio.open_nursery() as nursery:
        scope = await nursery.start(_run, driver, sockets)
        yield OwnMember(membership, sockets.address, scope)
        nursery.cancel_scope.cancel()


async def _run(driver: GossipDriver, sockets: object, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(driver.run, sockets)
            task_status.started(scope)


class OwnCluster:
    def __init__(self, stack: AsyncExitStack, keys: Sequence[bytes]) -> None:
        self._stack = stack
        self._keys = keys

    async def start(self, node: str, *, tags: Mapping[str, str] | None = None) -> OwnMember:
        return await self._stack.enter_async_context(own_member(node, keys=self._keys, tags=tags))


@asynccontextmanager
async def own_cluster(keys: Sequence[bytes]) -> AsyncIterator[OwnCluster]:
    async with AsyncExitStack() as stack:
        yield OwnCluster(stack, keys)


@pytest.mark.integration
@pytest.mark.parametrize("check", [*MEMBERSHIP_CHECKS, *SEALED_CHECKS], ids=lambda check: check.__name__)
async def test_our_gossip_keeps_the_contract(check: Check) -> None:
    await run_check(own_cluster, check)


@pytest.mark.integration
async def test_tags_of_the_node_itself_are_not_changed() -> None:
    async with own_member("ours") as member:
        for tags, removed in (({ORCA_TAG: "none"}, ()), ({}, (ORCA_TAG,))):
            with pytest.raises(InvalidRequestError, match=ORCA_TAG):
                await member.membership.change_tags(tags, removed)
        assert member.membership.members()[0].tags == {ORCA_TAG: "test"}


@pytest.mark.integration
async def test_old_events_come_with_a_join_only_when_they_are_wanted() -> None:
    async with own_member("a") as first, own_member("b") as plain, own_member("c") as replaying:
        await first.membership.send_event("early")
        quiet, told = Recorder(plain), Recorder(replaying)
        await plain.membership.join([first.address])
        await replaying.membership.join([first.address], is_replaying=True)
        await told.until(lambda: told.of(EventReceived), "the event from before the join")
        await first.membership.send_event("later")
        await quiet.until(lambda: quiet.of(EventReceived), "the event after the join")
        assert [news.name for news in quiet.of(EventReceived)] == ["later"]


@pytest.mark.serf
async def test_serfs_command_line_works_on_our_node_in_a_cluster_with_a_real_agent() -> None:
    key = bytes(range(32))
    async with (
        own_member("ours", keys=(key,), tags={"zone": "east"}) as ours,
        running_agent("real", encrypt=base64.b64encode(key).decode(), tags=["zone=west"]) as real,
        trio.open_nursery() as nursery,
    ):
        server = RpcServer(ours.membership, auth_key=AUTH_KEY, port=0)
        address: Address = await nursery.start(server.run)

        async def serf(verb: str, *words: str) -> str:
            line = ["serf", verb, f"-rpc-addr={address}", f"-rpc-auth={AUTH_KEY}", *words]
            with trio.fail_after(30):
                done = await trio.run_process(line, capture_stdout=True, capture_stderr=True, check=False)
            assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
            return done.stdout.decode()

        def answer(news: MembershipNews) -> None:
            if isinstance(news, QueryReceived) and news.name == "load":
                nursery.start_soon(ours.membership.respond, news.query_id, b"low")

        ours.membership.subscribe(answer)
        assert "contacting 1 nodes" in await serf("join", real.address)
        both = {"ours": MemberStatus.ALIVE, "real": MemberStatus.ALIVE}
        await Recorder(ours).sees(**both)
        await real.sees({"ours": "alive", "real": "alive"})
        listed = {line.split()[0]: line for line in (await serf("members")).splitlines()}
        assert "zone=west" in listed["real"]
        assert "zone=east" in listed["ours"]

        await serf("event", "deploy", "web")
        await real.logs("deploy")
        answered = await serf("query", "-timeout=2s", "load")
        assert "Response from 'ours': low" in answered
        assert "Ack from 'real'" in answered
        await serf("tags", "-set", "tier=db")
        await comes(lambda: ours.membership.members()[0].tags.get("tier") == "db")
        assert "Successfully contacted all live nodes" in await serf("reachability")
        assert "rtt: " in await serf("rtt", "ours", "ours")
        new = base64.b64encode(bytes(range(1, 33))).decode()
        await serf("keys", "-install", new)
        await serf("keys", "-use", new)
        await serf("keys", "-remove", base64.b64encode(key).decode())
        assert (await serf("keys", "-list")).split()[-2:] == [new, "[2/2]"]
        info = await serf("info")
        assert "name = ours" in info
        assert "encrypted = true" in info

        assert "Graceful leave complete" in await serf("leave")
        await real.sees({"ours": "left", "real": "alive"})
        nursery.cancel_scope.cancel()
