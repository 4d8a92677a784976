"""Joining over real sockets, past those who do not mean well: somebody between the two, and a flood of wrong tokens.

`ORCA_WRONG_TOKENS` is how many wrong tokens come.
"""

import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from node.mesh.driver import Mesh, MeshAddress
from node.mesh.frames import FrameStream
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.identity import read_identity
from node.trust.attempts import ADDRESS_BURST
from node.trust.entering import enter_cluster
from node.trust.kept import KeptTrust
from node.trust.messages import Message, Offer, TrustRefused, decode_message, encode_message
from orca.config import GossipSection, NodeConfig
from orca.errors import ForbiddenError, OrcaError
from orca.model.ids import ClusterId, NodeId
from orca.model.join_token import JoinOptions, JoinToken
from tests.consensus.intent import CountingIds
from tests.node.trust.cluster import Member
from tests.node.trust.test_joining import joining_context

TOKENS = int(os.environ.get("ORCA_WRONG_TOKENS", "200"))
AT_ONCE = 8
CONFIG = NodeConfig(gossip=GossipSection(host="127.0.0.1"))


@asynccontextmanager
async def listening(member: Member) -> AsyncIterator[MeshAddress]:
    """The mesh of `member`, at which others join."""
    mesh = Mesh(member.keys.node, random.Random(1), address_of=lambda _: None, credentials=member.credentials)
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(mesh.run, {}, "127.0.0.1", 0, join=member.desk.serve))
        nursery.cancel_scope.cancel()


async def enter(member: Member, path: Path, address: MeshAddress, token: JoinToken) -> None:
    """`orca join --join-only`."""
    options = JoinOptions(peers=(f"127.0.0.1:{address.port}",), token=token.text())
    with DataDirectory.open(path / "data") as directory, Environment.open(directory) as environment:
        await enter_cluster(CONFIG, options, environment, member.clock, CountingIds(), "newcomer")


class Middle:
    """Takes the joiner's connection with a certificate of its own, and passes on what `change` makes of the offer."""

    def __init__(self, member: MeshAddress, change: Callable[[Message], Message]) -> None:
        self.stranger = Member(ClusterId("c-middle"))
        self.heard: list[Message] = []
        self._member = member
        self._change = change

    async def serve(self, joiner: FrameStream, member: FrameStream) -> None:
        offered = decode_message(await member.receive())
        await joiner.send((encode_message(self._change(offered)),))
        while payloads := await joiner.receive_some():
            self.heard += map(decode_message, payloads)
            await member.send(payloads)
            await joiner.send((await member.receive(),))

    async def run(self, *, task_status: trio.TaskStatus[MeshAddress]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(MeshAddress("127.0.0.1", listener.socket.getsockname()[1]))
        await trio.serve_listeners(self._guarded, [listener])

    async def _guarded(self, near: trio.SocketStream) -> None:
        context = self.stranger.credentials.server_context()
        async with near, await trio.open_tcp_stream(*self._member) as far:
            joiner = trio.SSLStream(near, context, server_side=True, https_compatible=True)
            member = trio.SSLStream(far, joining_context(), https_compatible=True)
            with suppress(OrcaError, trio.BrokenResourceError):  # the joiner goes, as it should
                await self.serve(FrameStream(joiner), FrameStream(member))


def as_it_is(said: Message) -> Message:
    return said


def with_own_authority(said: Message) -> Message:
    assert isinstance(said, Offer)
    return msgspec.structs.replace(said, authorities=(Member(ClusterId("c-middle")).authority.certificate,))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (as_it_is, "has no certificate of CA {ca}, which it shows: somebody stands between"),
        (with_own_authority, "and the token is for CA {ca}: it is another cluster"),
    ],
)
async def test_who_stands_between_is_found_out_and_hears_nothing(
    tmp_path: Path, change: Callable[[Message], Message], words: str
) -> None:
    member = Member()
    token = member.make_token()
    before = member.image()
    async with listening(member) as address, trio.open_nursery() as nursery:
        middle = Middle(address, change)
        between = await nursery.start(middle.run)
        with trio.fail_after(20), pytest.raises(ForbiddenError) as refused:
            await enter(member, tmp_path, between, token)
        assert words.format(ca=token.fingerprint) in refused.value.message
        assert "Nothing was sent" in refused.value.message
        assert middle.heard == []
        assert member.image() == before
        with DataDirectory.open(tmp_path / "data") as directory, Environment.open(directory) as environment:
            assert KeptTrust(environment).own() is None
            assert read_identity(environment) is None
        with trio.fail_after(20):
            await enter(member, tmp_path, address, token)  # past it the same token lets the same directory in
        assert "newcomer" in {one.name for one in member.state.nodes.values()}
        nursery.cancel_scope.cancel()


async def test_a_flood_of_wrong_tokens_is_limited_and_keeps_nobody_out(tmp_path: Path) -> None:
    member = Member()
    token = member.make_token()
    proposed = len(member.replica.proposed)
    answers: list[TrustRefused] = []
    left = iter(range(TOKENS))
    async with listening(member) as address:

        async def attack(host: str) -> None:
            for _ in left:
                answers.extend(await show_wrong_token(member, address, token, host))

        async with trio.open_nursery() as nursery:
            for number in range(AT_ONCE):
                nursery.start_soon(attack, f"127.6.6.{number + 1}")
            with trio.fail_after(30):
                while len(answers) < TOKENS // 2:  # noqa: ASYNC110 - in the middle of it
                    await trio.sleep(0.01)
            assert len(member.replica.proposed) == proposed, "no wrong token comes to the log"
            with trio.fail_after(20):
                await enter(member, tmp_path, address, token)
    assert {one.code for one in answers} == {"forbidden", "not_available"}
    looked_at = sum(one.code == "forbidden" for one in answers)
    assert looked_at == member.desk.attempts.failures
    assert looked_at <= AT_ONCE * (ADDRESS_BURST + 10)


async def show_wrong_token(member: Member, address: MeshAddress, token: JoinToken, host: str) -> list[TrustRefused]:
    """One connection from `host`, and what it is told; nothing when it is turned away before."""
    wrong: dict[str, object] = {"type": "join", "token": token.id, "secret": "a" * 26, "csr": b"", "wrap_key": b""}
    wrong |= {"node": NodeId("n-x"), "name": "x", "addresses": {}, "schema": 1, "release": ""}
    wrong["wall_ms"] = member.clock.wall()
    async with await trio.open_tcp_stream(*address, local_address=host) as stream:
        frames = FrameStream(trio.SSLStream(stream, joining_context(), https_compatible=True))
        with suppress(OrcaError):
            await frames.receive()
            await frames.send((msgspec.msgpack.encode(wrong),))
            answer = decode_message(await frames.receive())
            return [answer] if isinstance(answer, TrustRefused) else []
    return []
