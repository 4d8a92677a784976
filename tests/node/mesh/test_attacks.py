"""What strangers and members that mean harm can do to a node: be told off, and nothing else."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from node.mesh.credentials import JOIN_ALPN, client_context
from node.mesh.driver import (
    CONNECTIONS_BURST,
    CONNECTIONS_PER_S,
    HANDSHAKES_MAX,
    JOIN_BYTES_MAX,
    JOINS_MAX,
    MeshAddress,
)
from node.mesh.purpose import Purpose
from node.mesh.session import Limits, StreamId
from node.mesh.session.framing import HEAD, SESSION, FrameParser, Kind, encode
from node.mesh.session.words import Opening, Reason, decode_words, encode_words, reason
from node.mesh.tls import TlsPipe, TlsStream, connect
from orca.errors import ForbiddenError, NodeUnreachableError, OrcaError, RemovedError
from orca.model.ids import ClusterId, NodeId
from tests.node.mesh.credentials import TrustedCluster
from tests.node.mesh.party import A, B, Party, two

MALLORY = NodeId("n-mallory")
HELLO = encode(Kind.HELLO, SESSION, encode_words(Limits().hello(b"m")))
ELSEWHERE = "127.0.0.2"
"""Another address of this computer: what is limited by address must not hit the honest at 127.0.0.1."""


async def still_serves(a: Party) -> None:
    """The honest one gets its answer."""
    with trio.fail_after(10):
        async with a.mesh.connect(B, Purpose.CONTENT) as frames:
            await frames.send([b"are you well"])
            assert await frames.receive() == b"answer to are you well"


async def until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not is_so():  # noqa: ASYNC110 - what is asked has no event
            await trio.sleep(0.01)


class Mallory:
    """A member with a good certificate that says what it likes."""

    def __init__(self, pipe: TlsPipe) -> None:
        self.pipe = pipe
        self.parser = FrameParser()
        self.said: Reason | None = None

    async def send(self, data: bytes) -> None:
        await self.pipe.send_all(data)

    async def greet(self) -> None:
        await self.send(HELLO)

    async def listen(self) -> None:
        """Read to the end."""
        with trio.fail_after(10):
            while (data := self.pipe.receive()) is not None:
                for kind, _, _, payload in self.parser.parse(bytes(data)):
                    if kind is Kind.GOAWAY:
                        self.said = decode_words(payload, Reason)
                await trio.lowlevel.wait_readable(self.pipe.socket)

    async def is_left(self) -> str:
        """Wait until the other side closes; what it said."""
        with suppress(NodeUnreachableError):
            await self.listen()
        return self.said.message if self.said else "closed without a word"


@asynccontextmanager
async def mallory(cluster: TrustedCluster, place: MeshAddress) -> AsyncIterator[Mallory]:
    context = cluster.credentials(MALLORY).client_context()
    pipe = await connect(place.host, place.port, context, local_host=ELSEWHERE)
    try:
        one = Mallory(pipe)
        await one.greet()
        yield one
    finally:
        pipe.close()


def opening(number: int, purpose: Purpose) -> bytes:
    return encode(Kind.OPEN, StreamId(number), encode_words(Opening(purpose=purpose.value)), purpose.priority)


# ---------------------------------------------------------------------------- certificates


async def test_a_key_that_our_authority_did_not_sign_gets_nowhere(cluster: TrustedCluster) -> None:
    foreign = TrustedCluster(cluster=ClusterId("c-1"))  # the same name, another key
    async with two(cluster) as (a, b, nursery):
        stranger = Party(MALLORY, a.places, foreign.credentials(MALLORY))
        await stranger.start(nursery)
        with pytest.raises(ForbiddenError, match=r"certificate is not good: .*unable to get local issuer|signature"):
            async with stranger.mesh.connect(B, Purpose.CONTENT):
                pass
        with pytest.raises(ForbiddenError, match="certificate is not good"):
            async with a.mesh.connect(MALLORY, Purpose.CONTENT):
                pass
        await still_serves(a)
        assert b.received == []
    foreign.close()


async def test_a_foreign_key_that_does_not_care_who_answers_is_turned_away_by_the_listener(
    cluster: TrustedCluster,
) -> None:
    foreign = TrustedCluster(cluster=ClusterId("c-2"))
    context = foreign.credentials(MALLORY).client_context()
    context.verify_mode = ssl.CERT_NONE
    async with two(cluster) as (a, b, _nursery):
        pipe = await connect(*a.places[B], context)
        one = Mallory(pipe)
        with pytest.raises(ForbiddenError, match=r"does not take this node's certificate: .*unknown ca"):
            await one.listen()
        pipe.close()
        await still_serves(a)
        assert b.mesh.counters.handshakes_failed == 1
    foreign.close()


async def test_who_has_no_certificate_is_told_so_and_left(cluster: TrustedCluster) -> None:
    context = client_context()
    context.load_verify_locations(cluster.authority.ca_path)
    async with two(cluster) as (a, b, _nursery):
        pipe = await connect(*a.places[B], context)
        one = Mallory(pipe)
        await one.greet()
        assert "takes nobody without a certificate of its cluster" in await one.is_left()
        assert one.said is not None
        assert one.said.code == "forbidden"
        pipe.close()
        assert b.mesh.counters.forbidden == 1


async def test_an_expired_certificate_is_refused_by_both_sides(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, _b, nursery):
        old = Party(MALLORY, a.places, cluster.credentials(MALLORY, days=-1))
        await old.start(nursery)
        with pytest.raises(ForbiddenError, match="certificate expired"):
            async with old.mesh.connect(B, Purpose.CONTENT):
                pass
        with pytest.raises(ForbiddenError, match="certificate has expired"):
            async with a.mesh.connect(MALLORY, Purpose.CONTENT):
                pass
        await still_serves(a)


async def test_a_revoked_node_is_refused_with_the_reason(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, _b, _nursery):
        cluster.revoke(A)
        with pytest.raises(ForbiddenError, match="the certificate of n-a was revoked"):
            async with a.mesh.connect(B, Purpose.CONTENT):
                pass


async def test_a_node_that_is_revoked_loses_its_connections_at_once(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, b, _nursery):
        async with a.mesh.connect_stream(B, Purpose.TUNNEL) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            cluster.revoke(A)
            b.mesh.recheck()
            with trio.fail_after(1), pytest.raises(trio.BrokenResourceError, match="n-a was revoked"):
                await stream.receive_some()
        await until(lambda: b.serving == 0)
        assert not any(one.is_connected for one in b.mesh.peers())


async def test_a_removed_node_is_told_so_by_its_peer_and_does_not_knock_on_and_on(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, b, _nursery):
        heard: list[str] = []
        a.mesh.removed = lambda error: heard.append(error.message)
        b.mesh.removed = lambda error: heard.append(f"b: {error.message}")
        async with a.mesh.connect(B, Purpose.CONTENT):
            cluster.revoke(A)
            b.mesh.recheck()
            await until(lambda: bool(heard))
        accepted = b.mesh.counters.accepted
        for _ in range(3):
            with pytest.raises(RemovedError, match="n-a was revoked"):
                async with a.mesh.connect(B, Purpose.CONTENT):
                    pass
        assert b.mesh.counters.accepted == accepted
        assert heard == ["the certificate of n-a was revoked"], "who refuses is told nothing of itself"


async def test_a_certificate_of_our_authority_that_names_another_cluster_is_refused(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, b, _nursery):
        context = client_context()
        context.load_cert_chain(cluster.authority.issue(MALLORY, cluster=ClusterId("c-9")))
        context.load_verify_locations(cluster.authority.ca_path)
        pipe = await connect(*a.places[B], context)
        one = Mallory(pipe)
        await one.greet()
        assert "is of cluster c-9, and this is c-1" in await one.is_left()
        pipe.close()
        assert b.mesh.counters.forbidden == 1


async def test_who_listens_with_another_nodes_address_is_not_believed(cluster: TrustedCluster) -> None:
    """A man in the middle with a certificate of the cluster is still not the node that was wanted."""
    async with two(cluster) as (a, _b, nursery):
        middle = Party(MALLORY, {}, cluster.credentials(MALLORY))
        await middle.start(nursery)
        a.places[B] = middle.places[MALLORY]
        with pytest.raises(OrcaError, match="n-b is looked for and n-mallory was found"):
            async with a.mesh.connect(B, Purpose.CONTENT):
                pass


# ---------------------------------------------------------------------------- members that mean harm


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (HEAD.pack(Kind.DATA, 1, 1, 2**32 - 1), "4294967295 bytes"),
        (b"".join(opening(number, Purpose.TUNNEL) for number in range(1, 20_001, 2)), "floods|faster than it reads"),
        (
            b"".join(
                opening(number, Purpose.TUNNEL) + encode(Kind.RESET, StreamId(number), reason("internal", ""))
                for number in range(1, 20_001, 2)
            ),
            "",
        ),
        (encode(Kind.PING, SESSION, bytes(8)) * 200_000, "faster than it reads"),
        (opening(1, Purpose.TUNNEL) + encode(Kind.DATA, StreamId(1), bytes(65_536), 1) * 100, "does not allow|window"),
        (bytes(range(256)) * 100, ""),
    ],
    ids=["4 GB length", "flood of streams", "10,000 abandoned", "flood of pings", "more than allowed", "noise"],
)  # fmt: skip
async def test_a_member_that_breaks_rules_is_left_and_all_others_are_served(
    cluster: TrustedCluster, attack: bytes, words: str
) -> None:
    async with two(cluster) as (a, b, _nursery), mallory(cluster, a.places[B]) as one:
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with suppress(NodeUnreachableError):
                    while True:
                        await one.send(attack)

            nursery.start_soon(send)
            said = await one.is_left()
            nursery.cancel_scope.cancel()
        assert said == "closed without a word" or not words or any(word in said for word in words.split("|")), said
        await until(lambda: b.serving == 0)
        await still_serves(a)


async def test_who_sends_and_never_reads_stops_only_itself(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, b, _nursery), mallory(cluster, a.places[B]) as one:
        await one.send(opening(1, Purpose.TUNNEL))
        with trio.move_on_after(0.5):
            for _ in range(16):  # as much as a stream may have under way, and nothing of the echo is taken
                await one.send(encode(Kind.DATA, StreamId(1), bytes(65_536), 1))
        await still_serves(a)
        status = {one.node: one for one in b.mesh.peers()}[MALLORY]
        assert status.sent_bytes < 2 * Limits().stream_bytes


async def test_handshakes_that_never_end_starve_nobody(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, b, _nursery):
        held = []
        for number in range(HANDSHAKES_MAX + 70):
            stream = await trio.open_tcp_stream(*a.places[B], local_address=ELSEWHERE)
            if number % 2:
                await stream.send_all(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
            held.append(stream)
        await until(lambda: b.mesh.counters.handshakes_evicted >= 70)
        await still_serves(a)
        for stream in held:
            await stream.aclose()


async def test_a_member_that_connects_a_thousand_times_is_slowed_down_and_leaves_nothing(
    cluster: TrustedCluster,
) -> None:
    async with two(cluster) as (a, b, _nursery):
        context = cluster.credentials(MALLORY).client_context()
        turned_away, began_at = 0, trio.current_time()
        for _ in range(1000):
            try:
                pipe = await connect(*a.places[B], context, local_host=ELSEWHERE)
            except OrcaError:
                turned_away += 1
                continue
            one = Mallory(pipe)
            await one.greet()
            pipe.close()
        passed_s = trio.current_time() - began_at
        assert 1000 - turned_away <= CONNECTIONS_BURST + CONNECTIONS_PER_S * passed_s + 1
        assert b.mesh.counters.too_many == turned_away
        await until(lambda: all(one.node == A for one in b.mesh.peers()))
        await still_serves(a)


async def test_a_plain_connection_that_says_nothing_is_put_out_in_time(cluster: TrustedCluster) -> None:
    async with two(cluster) as (a, _b, _nursery), await trio.open_tcp_stream(*a.places[B]) as stream:
        with trio.fail_after(10):
            assert await stream.receive_some(1) == b""


# ---------------------------------------------------------------------------- those who want to join


@asynccontextmanager
async def joinable(
    cluster: TrustedCluster, join: Callable[[TlsStream, str], Awaitable[None]]
) -> AsyncIterator[tuple[Party, ssl.SSLContext]]:
    context = client_context(JOIN_ALPN)
    context.load_verify_locations(cluster.authority.ca_path)
    async with trio.open_nursery() as nursery:
        party = Party(B, {}, cluster.credentials(B), join=join)
        await party.start(nursery)
        yield party, context
        nursery.cancel_scope.cancel()


async def test_one_without_a_certificate_may_ask_to_join_and_nothing_else(cluster: TrustedCluster) -> None:
    async def join(stream: TlsStream, address: str) -> None:
        await stream.send_all(b"who are you, " + address.encode() + b"? " + await stream.receive_some())

    async with joinable(cluster, join) as (party, context):
        stream = TlsStream(await connect(*party.places[B], context), 1000)
        await stream.send_all(b"a friend")
        with trio.fail_after(5):
            assert await stream.receive_some() == b"who are you, 127.0.0.1? a friend"
            assert await stream.receive_some() == b""
        await stream.aclose()
        assert party.mesh.counters.joins == 1


async def test_who_joins_without_end_is_cut_off(cluster: TrustedCluster) -> None:
    heard = 0

    async def join(stream: TlsStream, _address: str) -> None:
        nonlocal heard
        while data := await stream.receive_some():
            heard += len(data)

    async with joinable(cluster, join) as (party, context):
        stream = TlsStream(await connect(*party.places[B], context), 100 * JOIN_BYTES_MAX)
        with trio.fail_after(10), suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(bytes(16_384))
        await stream.aclose()
        assert heard <= JOIN_BYTES_MAX


async def test_those_who_hold_a_place_for_joining_make_room_for_the_next(cluster: TrustedCluster) -> None:
    async def join(stream: TlsStream, _address: str) -> None:
        await stream.send_all(await stream.receive_some())

    async with joinable(cluster, join) as (party, context):
        held = [await connect(*party.places[B], context, local_host=ELSEWHERE) for _ in range(JOINS_MAX + 8)]
        honest = TlsStream(await connect(*party.places[B], context), 1000)
        await honest.send_all(b"please")
        with trio.fail_after(5):
            assert await honest.receive_some() == b"please"
        for pipe in held:
            pipe.close()
        await honest.aclose()


async def test_without_a_join_handler_nobody_joins(cluster: TrustedCluster) -> None:
    context = client_context(JOIN_ALPN)
    context.load_verify_locations(cluster.authority.ca_path)
    async with two(cluster) as (a, _b, _nursery):
        stream = TlsStream(await connect(*a.places[B], context), 1000)
        with trio.fail_after(5):
            assert await stream.receive_some() == b""
        await stream.aclose()
