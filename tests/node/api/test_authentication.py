"""Who a call comes from: tokens, the unix socket, loopback; and what becomes of floods, and of rights that end."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from consensus.state.applying.tokens import api_token_problem
from node.api.authentication import RECHECK_S, Door, Gate, is_loopback
from node.api.caller import Peer, PeerKind
from node.api.server import ApiListen
from node.api.throttle import ADDRESSES_MAX, BURST, FailureLimiter
from orca.client import Credentials, NodeAddress, open_client, plain_reads
from orca.errors import ErrorEnvelope, ForbiddenError, RateLimitedError, UnauthorizedError
from orca.http import Request, unix_connector
from orca.model.api_token import ApiToken, make_api_token, parse_api_token
from orca.model.ids import TokenId
from orca.model.trust import ApiRole, Author
from orca.model.units import Instant, WallMs
from orca.model.view import DeployRequest
from tests.node.api.control import COPY, FakeControl, spec
from tests.node.api.raw import Told, ask, make_api, parse, serving

FAR = Peer(kind=PeerKind.TCP, address="10.0.0.9", port=7)


class NoBytes:
    """The body of a request that has none."""

    def __aiter__(self) -> "NoBytes":
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


def request(*fields: tuple[str, str]) -> Request:
    return Request("GET", "/v1/status", fields, "", NoBytes())


def trust(
    control: FakeControl, *, uid: int = 1000, loopback: bool = False, now: Callable[[], float] = lambda: 0.0
) -> Gate:
    return Gate(control.tokens, lambda: Instant(now()), owner_uid=uid, trusts_loopback=loopback)


def bearer(token: ApiToken) -> tuple[str, str]:
    return "authorization", f"Bearer {token.text}"


def test_a_token_reads_back_and_what_only_looks_like_one_does_not() -> None:
    made = make_api_token(TokenId("abcd2345"), bytes(range(32)))
    assert parse_api_token(made.text) == made
    assert len(made.secret) == 52
    for wrong in ("", made.text[:-1], made.text + "a", made.text.upper(), "orca-" + made.text[9:], made.text + "\n"):
        assert parse_api_token(wrong) is None, wrong


def test_who_shows_a_token_is_what_it_says_on_loopback_too() -> None:
    control = FakeControl()
    token = control.access.add("ci", ApiRole.VIEWER, "shop")
    here = Peer(kind=PeerKind.TCP, address="127.0.0.1", port=5)
    caller = trust(control, loopback=True).identify(here, request(bearer(token)))
    assert (caller.actor, caller.origin, caller.role, caller.projects) == (
        "token:ci", "tcp:127.0.0.1:5", ApiRole.VIEWER, ("shop",),
    )  # fmt: skip
    assert not caller.may(ApiRole.DEPLOYER)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (("authorization", "Basic abc"),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer orca-api-zzzz-" + "a" * 52),),
        (("authorization", "Bearer orca-api-cixx-" + "a" * 52),),
    ],
)
def test_without_a_right_token_nobody_comes_in_from_elsewhere(fields: tuple[tuple[str, str], ...]) -> None:
    control = FakeControl()
    control.access.add("ci", ApiRole.ADMIN)
    with pytest.raises(UnauthorizedError):
        trust(control, loopback=True).identify(FAR, request(*fields))


def test_two_tokens_in_one_request_are_none() -> None:
    control = FakeControl()
    token = control.access.add("ci", ApiRole.ADMIN)
    with pytest.raises(UnauthorizedError):
        trust(control).identify(FAR, request(bearer(token), bearer(token)))


def test_an_unknown_token_and_a_wrong_secret_read_alike_and_an_expired_one_says_so() -> None:
    control = FakeControl()
    token = control.access.add("ci", ApiRole.ADMIN, expires_at_ms=5_000)
    state = control.access.state
    unknown = api_token_problem(state, TokenId("zzzz"), token.secret_hash, WallMs(1))
    assert unknown == api_token_problem(state, token.id, bytes(32), WallMs(1))
    assert api_token_problem(state, token.id, token.secret_hash, WallMs(4_999)) == ""
    control.access.at_ms = WallMs(7_000)
    with pytest.raises(UnauthorizedError, match="ci expired 2 s ago"):
        trust(control).identify(FAR, request(bearer(token)))


def test_loopback_is_believed_only_where_it_is_set_so_and_in_every_spelling() -> None:
    control = FakeControl()
    for address in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        here = Peer(kind=PeerKind.TCP, address=address, port=5)
        assert trust(control, loopback=True).identify(here, request()).actor == "loopback"
        with pytest.raises(UnauthorizedError):
            trust(control).identify(here, request())
    for address in ("10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "", "localhost"):
        assert not is_loopback(address)


def test_the_socket_is_for_the_owner_and_root() -> None:
    control = FakeControl()
    for uid, is_let_in in ((1000, True), (0, True), (1001, False), (-1, False)):
        peer = Peer(kind=PeerKind.UNIX, uid=uid)
        if is_let_in:
            caller = trust(control).identify(peer, request())
            assert (caller.actor, caller.role) == (f"unix:{uid}", ApiRole.ADMIN)
        else:
            with pytest.raises(ForbiddenError, match=f"the user {uid} has no right"):
                trust(control).identify(peer, request())


# Floods


def test_failures_of_an_address_are_limited_and_forgiven_and_others_are_not_concerned() -> None:
    limiter = FailureLimiter(Instant(0.0))
    assert [limiter.fail("10.0.0.1", Instant(0.0)) for _ in range(BURST + 3)] == [True] * BURST + [False] * 3
    assert limiter.fail("10.0.0.2", Instant(0.0))
    assert limiter.fail("10.0.0.1", Instant(4.0))
    # One host of IPv6 has 2^64 addresses and counts as one.
    told = [limiter.fail(f"2001:db8::{number:x}", Instant(100.0)) for number in range(BURST + 1)]
    assert told == [True] * BURST + [False]
    assert limiter.fail("2001:db8:0:1::1", Instant(100.0))


def test_the_limiter_stays_small_whoever_fails_from_wherever() -> None:
    limiter = FailureLimiter(Instant(0.0))
    answers = [limiter.fail(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", Instant(n / 10_000)) for n in range(100_000)]
    assert len(limiter) == ADDRESSES_MAX
    assert sum(answers) < 500, "all together are limited too"


def test_a_right_token_is_let_in_in_the_middle_of_a_flood_from_the_same_address() -> None:
    control = FakeControl()
    token = control.access.add("ci", ApiRole.VIEWER)
    gate = trust(control)
    wrong = request(("authorization", "Bearer orca-api-cixx-" + "a" * 52))
    kinds = []
    for _ in range(1000):
        with pytest.raises((UnauthorizedError, RateLimitedError)) as caught:
            gate.identify(FAR, wrong)
        kinds.append(caught.type)
    assert kinds.count(UnauthorizedError) == BURST
    assert gate.identify(FAR, request(bearer(token))).actor == "token:ci"


@pytest.mark.integration
async def test_ten_thousand_wrong_tokens_cost_the_audit_one_line_and_the_others_are_answered() -> None:
    """Several connections that guess as fast as they can, while somebody with a right works on."""
    control, told = FakeControl(), Told()
    await control.deploy(DeployRequest(specs=(spec("web"),)), by=Author(actor="test"))
    token = control.access.add("ci", ApiRole.DEPLOYER)
    wrong = (
        b"POST /v1/services/default/web/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
        b"Authorization: Bearer orca-api-cixx-" + b"a" * 52 + b"\r\n\r\n"
    )
    guesses, statuses, left = 10_000, dict.fromkeys(("401", "429"), 0), [10_000]

    async def guess(address: tuple[str, int]) -> None:
        while left[0] > 0:
            left[0] -= 100
            stream = await trio.open_tcp_stream(*address)
            received = b""
            with contextlib.suppress(trio.BrokenResourceError):
                async with stream:
                    await stream.send_all(wrong * 100)
                    async for piece in stream:
                        received += piece
            for status in statuses:
                statuses[status] += received.count(b"HTTP/1.1 " + status.encode())

    async with serving(control, told=told, trusts_loopback=False) as addresses:
        address = addresses.tcp[0]
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(guess, address)
            for _ in range(20):
                answer = await ask(
                    address, "POST", "/v1/services/default/web/stop", authorization=f"Bearer {token.text}"
                )
                assert answer.status == 200
        assert (await ask(address, "GET", "/healthz")).status == 200
        await told.wait(1)
    assert guesses >= 10_000
    assert 1 <= statuses["401"] <= BURST + 5
    assert statuses["429"] >= 90, "the first guess over the limit on each connection ends it"
    assert [(one.action, one.result) for one in told.deeds] == [("stop_service", "unauthorized")]
    assert len([call for call in control.calls if call[0] == "stop"]) == 20


@pytest.mark.integration
async def test_a_flood_is_told_when_to_come_back_and_loses_its_connection() -> None:
    control = FakeControl()
    async with serving(control, trusts_loopback=False) as addresses:
        answers = [await ask(addresses.tcp[0], "GET", "/v1/status") for _ in range(BURST + 1)]
    assert [one.status for one in answers] == [401] * BURST + [429]
    assert answers[0].headers["www-authenticate"] == 'Bearer realm="orca"'
    assert (answers[-1].headers["retry-after"], answers[-1].headers["connection"]) == ("2", "close")
    assert answers[-1].error()["code"] == "rate_limited"


# Rights that end


@contextlib.asynccontextmanager
async def connected(control: FakeControl) -> AsyncGenerator[trio.abc.Stream, None]:
    """A connection from elsewhere, in memory."""
    client, server = trio.testing.memory_stream_pair()
    api, _ = make_api(control, trusts_loopback=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(api.converse, server, Door(api.trust, FAR))
        yield client
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("target", "mark"),
    [
        ("/v1/watch", b"event: error\ndata: "),
        ("/v1/events?follow=1", b"event: error\ndata: "),
        ("/v1/events?follow=1&everywhere=1", b"event: error\ndata: "),
        ("/v1/logs?service=default/web&follow=1", b'{"error":'),
    ],
)
@pytest.mark.parametrize("way", ["revoked", "expired"])
async def test_a_stream_ends_within_seconds_of_the_right_to_it(
    target: str, mark: bytes, way: str, autojump_clock: trio.testing.MockClock
) -> None:
    control = FakeControl()
    await control.deploy(DeployRequest(specs=(spec("web"),)), by=Author(actor="test"))
    token = control.access.add("ci", ApiRole.VIEWER, expires_at_ms=10**12)
    async with connected(control) as client:
        head = f"GET {target} HTTP/1.1\r\nHost: far\r\nAuthorization: Bearer {token.text}\r\n\r\n"
        await client.send_all(head.encode())
        received = await client.receive_some()
        assert received.startswith(b"HTTP/1.1 200")
        await trio.sleep(100)
        ended_at = trio.current_time()
        if way == "revoked":
            del control.access.state.api_tokens[token.id]
        else:
            control.access.at_ms = WallMs(10**12)
        while b"\r\n0\r\n\r\n" not in received:
            received += await client.receive_some()
        assert trio.current_time() - ended_at <= RECHECK_S + 0.5
        body = received.partition(mark)[2]
        shown = (b'{"error":' + body if mark.startswith(b"{") else body).partition(b"\n")[0]
        assert msgspec.json.decode(shown, type=ErrorEnvelope).error.code == "unauthorized"
        await client.send_all(head.encode())
        assert (await client.receive_some()).startswith(b"HTTP/1.1 401")
    assert control.open_logs == 0


@pytest.mark.integration
async def test_a_session_inside_a_copy_ends_with_the_right_to_it() -> None:
    control = FakeControl()
    token = control.access.add("ci", ApiRole.DEPLOYER)
    async with serving(control, trusts_loopback=False) as addresses:
        host, port = addresses.tcp[0]
        credentials = Credentials(token=token.text)
        async with (
            open_client(NodeAddress(host=host, port=port), credentials=credentials) as client,
            client.exec(COPY, ("wait",), stdin=True) as channel,
        ):
            await channel.receive()
            del control.access.state.api_tokens[token.id]
            with trio.fail_after(20), pytest.raises(UnauthorizedError, match="token:ci has ended"):
                await channel.receive()
        assert control.open_execs == 0
        with pytest.raises(UnauthorizedError):
            async with (
                open_client(NodeAddress(host=host, port=port), credentials=credentials) as client,
                client.exec(COPY, ("wait",)),
            ):
                pass


# What stays as it was, and the client's side


@pytest.mark.integration
async def test_who_is_trusted_for_where_he_is_is_guarded_against_pages_wherever_the_api_listens() -> None:
    control = FakeControl()
    async with serving(control, ApiListen(host="0.0.0.0"), trusts_loopback=True) as addresses:
        address = ("127.0.0.1", addresses.tcp[0][1])
        assert (await ask(address, "GET", "/v1/status")).status == 200
        assert (await ask(address, "GET", "/v1/status", host="evil.example")).status == 403
        answer = await ask(address, "POST", "/v1/gossip/pause", origin="http://evil.example")
        assert answer.status == 403
        assert not control.membership.is_paused


@pytest.mark.integration
async def test_clients_show_their_token_by_every_way(tmp_path: Path) -> None:
    control = FakeControl()
    token = control.access.add("ci", ApiRole.VIEWER)
    path = str(tmp_path / "api.sock")
    async with serving(control, ApiListen(host="127.0.0.1", socket_path=path), trusts_loopback=False) as addresses:
        host, port = addresses.tcp[0]
        there = NodeAddress(host=host, port=port)
        credentials = Credentials(token=token.text)
        async with open_client(there, credentials=credentials) as client:
            assert (await client.status()).leader
            with pytest.raises(ForbiddenError, match="is a viewer"):
                await client.pause_gossip(is_paused=True)
        reads = plain_reads(there, credentials=credentials)
        assert (await trio.to_thread.run_sync(lambda: trio.run(reads.status))).leader
        async with open_client(there) as client:
            with pytest.raises(UnauthorizedError, match="a token is needed"):
                await client.status()
        async with await unix_connector(path)() as stream:
            await stream.send_all(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            got = b""
            async for piece in stream:
                got += piece
    assert parse(got).status == 200
