"""TLS in front of the proxy, through real sockets, by OpenSSL's own client: names, refusals, bodies, endings."""

import hashlib
import shutil
import socket
import ssl
import subprocess
import warnings
from collections import Counter
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import rsa

from node.proxy.certificates import Chain, build_certificate_table
from node.proxy.limits import ProxyLimits
from tests.certificates import TestAuthority
from tests.node.proxy.proxy_world import Peer, length_of, proxy_world, until
from tests.node.proxy.tls_world import CLOSING_GET, GET, connect, show

MEGABYTES = bytes(range(256)) * 4096 * 10


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    return TestAuthority()


async def test_a_request_through_tls_is_answered_and_its_copy_is_told(authority: TestAuthority) -> None:
    async with proxy_world() as world:
        show(world, authority, "a.example")
        upstream = await world.serve_by()
        client = await connect(world, authority.client_context())
        for _ in range(3):  # the first the long way, the others in the lane
            await client.send(GET)
            assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        assert upstream.received.count(b"\r\nX-Forwarded-Proto: https\r\n") == 3
        assert b"Proto: http\r\n" not in upstream.received
        assert client.tls.selected_alpn_protocol() is None
        assert client.tls.version() == "TLSv1.3"
        assert world.proxy.stats().handshakes == 1


async def test_alpn_agrees_on_http_1_1_whatever_the_name(authority: TestAuthority) -> None:
    async with proxy_world() as world:
        show(world, authority, "a.example")
        context = authority.client_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        client = await connect(world, context)
        assert client.tls.selected_alpn_protocol() == "http/1.1"


async def test_each_name_gets_its_own_certificate_and_a_wildcard_covers_one_label(authority: TestAuthority) -> None:
    async with proxy_world() as world:
        show(world, authority, "a.example", "*.b.example", "c.b.example")
        for asked, shown in (
            ("a.example", "a.example"),
            ("A.Example", "a.example"),
            ("c.b.example", "c.b.example"),
            ("d.b.example", "*.b.example"),
        ):
            assert (await connect(world, authority.client_context(), asked)).names() == [shown]


@pytest.mark.parametrize("name", ["x.d.b.example", "b.example", "nobody.example", None])
async def test_a_name_without_a_certificate_is_refused_by_an_alert(authority: TestAuthority, name: str | None) -> None:
    async with proxy_world(ProxyLimits(linger_timeout_s=0.1)) as world:
        show(world, authority, "a.example", "*.b.example")
        context = authority.client_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # so that nobody but the proxy refuses
        with pytest.raises(trio.BrokenResourceError) as refused:
            await connect(world, context, name)
        assert isinstance(refused.value.__cause__, ssl.SSLError)
        assert refused.value.__cause__.reason == "TLSV1_UNRECOGNIZED_NAME"
        await until(lambda: world.proxy.stats().handshakes_failed == 1)


async def test_a_client_that_names_nobody_gets_the_certificate_that_is_meant_for_it(authority: TestAuthority) -> None:
    async with proxy_world() as world:
        show(world, authority, "127.0.0.1", "a.example", anonymous=True)
        assert (await connect(world, authority.client_context(), "127.0.0.1")).names() == ["127.0.0.1"]


async def test_thousands_of_names_are_served_from_one_table() -> None:
    authority = TestAuthority()
    pem = {number: authority.chain(f"n{number}.example") for number in range(0, 5000, 1000)}
    async with proxy_world() as world:
        chains = [Chain(names=(f"n{one}.example",), pem=pem.get(one, b"nobody asks")) for one in range(5000)]
        world.proxy.set_certificates(build_certificate_table(chains))
        for number in pem:
            name = f"n{number}.example"
            assert (await connect(world, authority.client_context(), name)).names() == [name]


async def test_a_chain_that_cannot_be_shown_fails_its_own_name_alone(authority: TestAuthority) -> None:
    async with proxy_world() as world:
        good, bad = Chain(names=("a.example",), pem=authority.chain("a.example")), Chain(names=("b.example",), pem=b"?")
        world.proxy.set_certificates(build_certificate_table([bad, good]))
        with pytest.raises(trio.BrokenResourceError):
            await connect(world, authority.client_context(), "b.example")
        await connect(world, authority.client_context(), "a.example")


async def test_what_is_older_than_tls_1_2_is_refused(authority: TestAuthority) -> None:
    async with proxy_world() as world:
        show(world, authority, "a.example")
        context = authority.client_context()
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with warnings.catch_warnings(action="ignore"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(trio.BrokenResourceError) as refused:
            await connect(world, context)
        assert "PROTOCOL_VERSION" in str(refused.value.__cause__)


@pytest.mark.parametrize("ciphers", ["ECDHE+AESGCM", "ECDHE+CHACHA20"])
async def test_tls_1_2_is_spoken_with_forward_secrecy_also_with_rsa(authority: TestAuthority, ciphers: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    async with proxy_world() as world:
        chain = Chain(names=("a.example",), pem=authority.chain("a.example", key=key))
        world.proxy.set_certificates(build_certificate_table([chain]))
        await world.serve_by()
        context = authority.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        client = await connect(world, context)
        await client.send(GET)
        assert (await client.answer()).endswith(b"ok")


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA"])
async def test_ciphers_without_forward_secrecy_or_authentication_are_refused(
    authority: TestAuthority, ciphers: str
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    async with proxy_world() as world:
        chain = Chain(names=("a.example",), pem=authority.chain("a.example", key=key))
        world.proxy.set_certificates(build_certificate_table([chain]))
        context = authority.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        with pytest.raises(trio.BrokenResourceError):
            await connect(world, context)


async def echo(peer: Peer) -> None:
    """Answers each request with its own body."""
    while head := await peer.head():
        body = await peer.exactly(length_of(head))
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_long_bodies_come_through_whole_in_both_directions(
    authority: TestAuthority, version: ssl.TLSVersion
) -> None:
    async with proxy_world() as world:
        show(world, authority, "a.example")
        await world.serve_by(echo)
        context = authority.client_context()
        context.maximum_version = version
        client = await connect(world, context)
        head = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % len(MEGABYTES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, head + MEGABYTES)
            answer = await client.answer()
        assert hashlib.sha256(answer.partition(b"\r\n\r\n")[2]).digest() == hashlib.sha256(MEGABYTES).digest()


async def test_a_long_answer_in_the_lane_waits_for_a_slow_client_and_comes_whole(authority: TestAuthority) -> None:
    async def serve(peer: Peer) -> None:
        while await peer.head():
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(MEGABYTES))
            await peer.send(MEGABYTES)

    async with proxy_world() as world:
        show(world, authority, "a.example")
        await world.serve_by(serve)
        client = await connect(world, authority.client_context())
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        for _ in range(2):
            await client.send(GET)
            head = await client.head()
            await trio.sleep(0.1)  # the proxy's buffers are full by now, whatever the computer does
            body = await client.exactly(length_of(head))
            assert hashlib.sha256(body).digest() == hashlib.sha256(MEGABYTES).digest()


async def test_requests_that_come_in_one_piece_are_all_answered(authority: TestAuthority) -> None:
    async with proxy_world() as world:
        show(world, authority, "a.example")
        await world.serve_by()
        client = await connect(world, authority.client_context())
        many = 2000  # more than one read takes
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, GET * (many - 1) + CLOSING_GET)
            answers = await client.rest()
        assert answers.count(b"HTTP/1.1 200 ") == many


async def test_a_connection_that_switches_protocol_carries_both_directions_and_one_may_end_first(
    authority: TestAuthority,
) -> None:
    heard: list[bytes] = []

    async def switch_and_listen(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        await peer.exactly(4)
        await peer.send(b"pong")
        await peer.stream.send_eof()
        heard.append(await peer.rest())

    async with proxy_world() as world:
        show(world, authority, "a.example")
        await world.serve_by(switch_and_listen)
        client = await connect(world, authority.client_context())
        await client.send(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert await client.exactly(5) == b"hello"
        await client.send(b"ping")
        assert await client.exactly(4) == b"pong"
        assert not await client.more(), "the end of the other side comes as an end"
        await client.send(b"still here" * 10_000)
        await client.tls.unwrap()
        await client.stream.send_eof()
        await until(lambda: bool(heard))
        assert heard == [b"still here" * 10_000]


async def test_an_answer_that_ends_with_its_connection_ends_in_tls_and_one_that_is_cut_does_not(
    authority: TestAuthority,
) -> None:
    """RFC 8446 §6.1: without the alert half a file could pass for a whole one."""

    async def whole(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        await peer.stream.send_eof()

    async def cut(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")
        peer.reset()

    async with proxy_world() as world:
        show(world, authority, "a.example")
        await world.serve_by(whole)
        client = await connect(world, authority.client_context())
        await client.send(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
        assert (await client.rest()).endswith(b"all of it")
        await world.serve_by(cut, "alloc-b")
        client = await connect(world, authority.client_context())
        await client.send(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await client.rest()


async def test_a_client_that_stalls_in_its_handshake_is_given_up_and_holds_nobody_up(authority: TestAuthority) -> None:
    async with proxy_world(ProxyLimits(handshake_timeout_s=0.2)) as world:
        show(world, authority, "a.example")
        await world.serve_by()
        stalled = await trio.open_tcp_stream("127.0.0.1", world.tls_port)
        await stalled.send_all(b"\x16\x03\x01\x02\x00\x01")
        client = await connect(world, authority.client_context())
        await client.send(GET)
        assert (await client.answer()).endswith(b"ok")
        await until(lambda: world.proxy.stats().handshakes_failed == 1)
        with pytest.raises(trio.BrokenResourceError):
            await stalled.receive_some(1)
        await stalled.aclose()


async def test_between_the_steps_of_many_handshakes_everybody_else_has_a_turn(
    authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, stepped_at = 0, []
    step = ssl.SSLObject.do_handshake

    def noted(tls: ssl.SSLObject) -> None:
        if tls.server_side:
            stepped_at.append(turns)
        step(tls)

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(ssl.SSLObject, "do_handshake", noted)
    async with proxy_world() as world, trio.open_nursery() as nursery:
        show(world, authority, "a.example")
        nursery.start_soon(take_turns)
        async with trio.open_nursery() as clients:
            for _ in range(30):
                clients.start_soon(connect, world, authority.client_context())
        await until(lambda: world.proxy.stats().handshakes == 30)
        nursery.cancel_scope.cancel()
    assert len(stepped_at) >= 60
    # Within one round of the loop the order is drawn, so two steps may find the same turn, and a third may not.
    assert max(Counter(stepped_at).values()) <= 2


async def test_of_too_many_handshakes_the_oldest_gives_way(authority: TestAuthority) -> None:
    async with proxy_world(ProxyLimits(handshakes_max=3)) as world:
        show(world, authority, "a.example")
        stalled = [await trio.open_tcp_stream("127.0.0.1", world.tls_port) for _ in range(3)]
        await until(lambda: world.proxy.stats().connections == 3)
        await connect(world, authority.client_context())
        await until(lambda: world.proxy.stats().handshakes_failed == 1)
        for one in stalled:
            await one.aclose()


async def test_garbage_is_a_counted_drop_and_plain_http_is_told_where_it_is(authority: TestAuthority) -> None:
    async with proxy_world(ProxyLimits(linger_timeout_s=0.1)) as world:
        show(world, authority, "a.example")
        peer = Peer(await trio.open_tcp_stream("127.0.0.1", world.tls_port))
        world.clients.append(peer)
        await peer.send(b"\x00\xff" * 100)
        await peer.rest()
        await until(lambda: world.proxy.stats().handshakes_failed == 1)
        peer = Peer(await trio.open_tcp_stream("127.0.0.1", world.tls_port))
        world.clients.append(peer)
        await peer.send(GET)
        answer = await peer.rest()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"https://" in answer
        await until(lambda: world.proxy.stats().handshakes_failed == 2)


async def test_a_name_that_is_no_text_is_refused_and_fills_no_log(authority: TestAuthority) -> None:
    """What a client sends must not make the node write: pytest fails on what OpenSSL's callback would leave behind."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = authority.client_context().wrap_bio(incoming, outgoing, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        asking.do_handshake()
    hello = outgoing.read()
    assert hello.count(b"a.example") == 1
    async with proxy_world(ProxyLimits(linger_timeout_s=0.1)) as world:
        show(world, authority, "a.example")
        peer = Peer(await trio.open_tcp_stream("127.0.0.1", world.tls_port))
        world.clients.append(peer)
        await peer.send(hello.replace(b"a.example", b"\xff.example"))
        assert (await peer.rest())[:1] == b"\x15", "an alert"
        await until(lambda: world.proxy.stats().handshakes_failed == 1)


async def test_certificates_are_swapped_under_connections_that_go_on(authority: TestAuthority) -> None:
    other = TestAuthority("another CA")
    async with proxy_world() as world:
        show(world, authority, "a.example", "b.example")
        await world.serve_by()
        before = await connect(world, authority.client_context())
        show(world, other, "a.example")
        await before.send(GET)
        assert (await before.answer()).endswith(b"ok")
        after = await connect(world, other.client_context())
        await after.send(GET)
        assert (await after.answer()).endswith(b"ok")
        with pytest.raises(trio.BrokenResourceError):
            await connect(world, authority.client_context(), "b.example")


async def test_a_client_that_asks_for_another_name_than_it_named_is_routed_by_its_request(
    authority: TestAuthority,
) -> None:
    """As every server does that is not told otherwise: a connection may be shared by names of one certificate."""
    async with proxy_world() as world:
        show(world, authority, "a.example")
        await world.serve_by()
        client = await connect(world, authority.client_context())
        await client.send(b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n")
        assert (await client.answer()).endswith(b"ok")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing (apt install openssl)")
@pytest.mark.parametrize(
    ("version", "order", "begins"), [("-tls1_2", b"R\n", b""), ("-tls1_3", b"K\n", b"HTTP/1.1 200 OK")]
)
async def test_renegotiation_is_refused_and_new_keys_are_taken(
    authority: TestAuthority, version: str, order: bytes, begins: bytes
) -> None:
    """A line `R` has `openssl s_client` ask for a renegotiation, a line `K` for new keys on both sides."""
    async with proxy_world() as world:
        show(world, authority, "a.example")
        await world.serve_by()
        command = [
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{world.tls_port}",
            version,
            "-servername",
            "a.example",
        ]
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdin is not None
        assert process.stdout is not None
        said = b""
        while b"---\n" not in said.partition(b"Verify return code")[2]:
            said += await process.stdout.receive_some()
        said = b""
        await process.stdin.send_all(order)
        await trio.sleep(0.1)  # it reads its input in lines, as fast as it comes
        await process.stdin.send_all(CLOSING_GET)
        while received := await process.stdout.receive_some():
            said += received
        await process.wait()
        assert (b"no renegotiation" in said) == (not begins), said
        assert (b"KEYUPDATE" in said) == bool(begins), said
        assert begins in said
        assert (b"HTTP/1.1 200" in said) == bool(begins)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing (apt install curl)")
async def test_curl_trusts_the_ca_and_gets_ten_megabytes_both_ways(authority: TestAuthority, tmp_path: Path) -> None:
    ca, body = tmp_path / "ca.pem", tmp_path / "body"
    ca.write_bytes(authority.pem)
    body.write_bytes(MEGABYTES)
    async with proxy_world() as world:
        show(world, authority, "a.example")
        await world.serve_by(echo)
        url = f"https://a.example:{world.tls_port}/"
        resolve = f"a.example:{world.tls_port}:127.0.0.1"
        command = ["curl", "-sS", "--cacert", str(ca), "--resolve", resolve, "--data-binary", f"@{body}"]
        done = await trio.run_process(
            [*command, "-H", "Expect:", url, url], capture_stdout=True, capture_stderr=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout) == 2 * len(MEGABYTES)
        assert done.stdout == MEGABYTES * 2
