"""Our RPC port on real sockets: its own client as the good one, raw sockets as the bad ones."""

import pytest
import trio
import trio.testing

from gossip.membership import (
    Acked,
    Answered,
    EventReceived,
    Finished,
    KeyOperation,
    MembersChanged,
    QueryReceived,
    Question,
    StatusChange,
)
from gossip.messages import Address
from gossip.rpc.backend import LogLevel
from gossip.rpc.driver import RpcClient, connect
from gossip.rpc.protocol import RequestHeader, encode_request_header
from gossip.rpc.requests import Auth, FollowEvents, Handshake, Request, encode_request
from gossip.rpc.server import RpcServer
from gossip.rpc.server.driver import CONNECTIONS_MAX, GREETING_S, QUERIES_MAX, QUEUE_BYTES_MAX
from orca.errors import (
    AddressInUseError,
    ForbiddenError,
    InvalidConfigError,
    InvalidRequestError,
    NodeUnreachableError,
    NotAvailableError,
    NotFoundError,
)
from tests.gossip.rpc.memory_backend import (
    AUTH_KEY,
    PRIMARY_KEY,
    MemoryBackend,
    comes,
    is_backend,
    make_member,
    served,
)

pytestmark = pytest.mark.integration


async def test_our_client_and_our_server_understand_each_other() -> None:
    async with served() as at, connect(at.address, AUTH_KEY) as client:
        assert await client.members() == at.backend.members()
        assert [member.node for member in await client.members_filtered({"zone": "w.*"})] == ["m2"]
        with pytest.raises(InvalidRequestError, match="cannot be read"):
            await client.members_filtered(node="(")
        assert await client.stats() == await at.backend.stats()
        assert await client.coordinate("m2") == await at.backend.coordinate("m2")
        assert await client.coordinate("m9") is None
        assert await client.join(["10.0.0.9"], is_replaying=True) == 1
        assert at.backend.last_call() == ("join", ("10.0.0.9",), True)
        with pytest.raises(NodeUnreachableError, match=r"nobody answers at 10\.9\.9\.9"):
            await client.join(["10.9.9.9"])
        report = await client.change_keys(KeyOperation.USE, bytes(16))
        assert report.failures == {"m1": "no such key", "m2": "no such key"}
        assert (await client.change_keys(KeyOperation.LIST)).keys == at.backend.keys
        assert (await client.change_keys(KeyOperation.USE, PRIMARY_KEY)).is_complete
        with pytest.raises(NotFoundError):
            await client.respond(8, b"")
        await client.force_leave("m3", is_prune=True)
        await client.leave()
        assert at.backend.last_call() == ("leave",)


async def test_streams_tell_what_happens_and_end_with_their_blocks() -> None:
    async with served() as at, connect(at.address, AUTH_KEY) as client:
        async with client.follow_events("member-join,query") as news, client.follow_log("info") as lines:
            joined = MembersChanged(change=StatusChange.JOINED, members=(make_member("m4", 4), make_member("m5", 5)))
            at.backend.publish(EventReceived(ltime=1, name="unwanted", payload=b"", is_coalescable=True))
            at.backend.publish(joined)
            at.backend.log(LogLevel.INFO, "a line")
            assert await news.receive() == joined
            assert await lines.receive() == "a line"
            question = Question(name="q", payload=b"\xff", wants_ack=True)
            async with client.ask(question) as answers:
                found = [one async for one in answers]
            assert found == [
                Acked("m1"), Answered("m1", b"I am m1"), Acked("m2"), Answered("m2", b"I am m2"),
            ]  # fmt: skip
            asked = await news.receive()
            assert isinstance(asked, QueryReceived)
            await client.respond(asked.query_id, b"yes")
            assert at.backend.pending == {7: b"yes"}
        await comes(lambda: not at.backend.sinks and not at.backend.log_sinks)
        assert not at.backend.open_questions
        assert await client.stats(), "the connection lives on"


async def test_a_client_that_goes_leaves_nothing_behind() -> None:
    async with served() as at:
        at.backend.is_answering = False
        async with connect(at.address, AUTH_KEY) as client, client.follow_events(), client.ask(Question(name="q")):
            assert at.backend.sinks
            assert at.backend.open_questions
        await comes(lambda: not at.backend.sinks and not at.backend.open_questions)
        at.backend.publish(EventReceived(ltime=1, name="e", payload=b"", is_coalescable=True))
        assert not at.server.drops


async def test_queries_of_one_connection_are_bounded() -> None:
    async with served() as at, connect(at.address, AUTH_KEY) as client:
        at.backend.is_answering = False
        for _ in range(QUERIES_MAX):
            async with client.ask(Question(name="q")):
                pass
        with pytest.raises(InvalidRequestError, match="which is the most"):
            async with client.ask(Question(name="q")):
                pass
        for sink in list(at.backend.open_questions):
            sink(Finished())
        async with client.ask(Question(name="q")):
            pass


async def test_a_wrong_key_and_no_key_are_forbidden() -> None:
    async with served() as at:
        with pytest.raises(ForbiddenError, match="Invalid authentication token"):
            async with connect(at.address, "wrong"):
                pass
        async with connect(at.address) as client:
            with pytest.raises(ForbiddenError, match="Authentication required"):
                await client.members()
            with pytest.raises(ForbiddenError, match="Authentication required"):
                await client.leave()
        assert not at.backend.calls


def test_no_port_opens_without_a_key() -> None:
    for key in ("", "  "):
        with pytest.raises(InvalidConfigError, match="auth key"):
            RpcServer(is_backend(MemoryBackend()), auth_key=key)


async def test_it_listens_on_loopback_and_tells_when_the_port_is_taken() -> None:
    async with served() as at:
        assert at.address.host == "127.0.0.1"
        second = RpcServer(is_backend(MemoryBackend()), auth_key=AUTH_KEY, port=at.address.port)
        with pytest.raises(AddressInUseError, match=str(at.address.port)):
            await second.run()
    elsewhere = RpcServer(is_backend(MemoryBackend()), auth_key=AUTH_KEY, host="192.0.2.1")
    with pytest.raises(InvalidConfigError, match=r"192\.0\.2\.1"):
        await elsewhere.run()


async def raw(address: Address) -> trio.SocketStream:
    return await trio.open_tcp_stream(*address)


async def everything(stream: trio.SocketStream) -> bytes:
    """What comes until the other side ends the connection."""
    found = b""
    with trio.fail_after(10):
        try:
            async for data in stream:
                found += data
        except trio.BrokenResourceError:
            pass  # a reset is an end as well
    return found


@pytest.mark.parametrize(
    ("sent", "said", "cause"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"", "no_struct"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"", "no_struct"),
        (b"\xdd\xff\xff\xff\xff" * 20, b"", "bad_msgpack"),
        (b"\xc1", b"", "bad_msgpack"),
        (encode_request(1, FollowEvents()), b"Handshake required", "no_handshake"),
        (encode_request_header(RequestHeader("explode", 1)), b"Unsupported command", "unknown_command"),
        (encode_request(1, Handshake(version=1)) + encode_request(2, Auth(key="x" * 9000)), b"", "too_large"),
        (encode_request(1, Handshake(version=7)) * 5, b"Unsupported IPC version", "refused"),
    ],
    ids=["http", "tls", "huge list", "no type", "no handshake", "unknown", "large key", "versions"],
)
async def test_strangers_are_sent_away_with_a_word(sent: bytes, said: bytes, cause: str) -> None:
    async with served() as at, await raw(at.address) as stream:
        await stream.send_all(sent)
        found = await everything(stream)
        assert said in found
        await comes(lambda: at.server.drops)
        assert set(at.server.drops) <= {cause, "bad_msgpack"}
        async with connect(at.address, AUTH_KEY) as client:
            assert await client.members(), "others are served as before"


async def test_who_never_shows_the_key_is_sent_away(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.autojump_threshold = 0.2  # real seconds: what the kernel carries is not overtaken
    async with served() as at, await raw(at.address) as stream:
        begun = trio.current_time()
        await stream.send_all(encode_request(1, Handshake(version=1)))
        async for _ in stream:
            pass
        assert trio.current_time() - begun >= GREETING_S
        await comes(lambda: at.server.drops)
        assert at.server.drops == {"no_greeting": 1}


async def test_more_connections_than_allowed_are_closed_at_the_door() -> None:
    async with served() as at:
        streams = [await raw(at.address) for _ in range(CONNECTIONS_MAX)]
        for stream in streams:
            await stream.send_all(encode_request(1, Handshake(version=1)))
            assert await stream.receive_some(100)
        async with await raw(at.address) as refused:
            assert await everything(refused) == b""
        assert at.server.drops["connections"] == 1
        for stream in streams:
            await stream.aclose()
        await comes(lambda: at.server._connections == 0)
        async with connect(at.address, AUTH_KEY) as client:
            assert await client.members()


async def test_a_slow_reader_is_dropped_and_nobody_waits_for_it() -> None:
    async with served() as at, await raw(at.address) as slow, connect(at.address, AUTH_KEY) as client:
        greeting: list[Request] = [Handshake(version=1), Auth(key=AUTH_KEY), FollowEvents()]
        for seq, request in enumerate(greeting, start=1):
            await slow.send_all(encode_request(seq, request))
            await slow.receive_some(100)
        await comes(lambda: at.backend.sinks)
        large = EventReceived(ltime=1, name="large", payload=b"x" * 60_000, is_coalescable=False)
        published = 0
        while at.backend.sinks and published < 20 * QUEUE_BYTES_MAX:
            at.backend.publish(large)  # returns at once, whatever the client does
            published += len(large.payload)
            await trio.lowlevel.checkpoint()
        assert published < 20 * QUEUE_BYTES_MAX, "it was never dropped"
        await comes(lambda: at.server.drops)
        assert at.server.drops == {"slow_reader": 1}
        assert await client.stats(), "the other client is served"


async def test_our_client_ends_a_stream_that_nobody_reads() -> None:
    async with served() as at, connect(at.address, AUTH_KEY) as client:
        with pytest.raises(NotAvailableError, match="waited to be read"):
            await follow_without_reading(client, at.backend)
        assert await client.stats(), "the connection lives on"


async def follow_without_reading(client: RpcClient, backend: MemoryBackend) -> None:
    async with client.follow_events() as news:
        for number in range(1100):
            backend.publish(EventReceived(ltime=number, name="e", payload=b"", is_coalescable=False))
            if number % 100 == 0:
                await client.stats()
        await client.stats()
        assert len([one async for one in news]) == 1024


async def test_a_list_of_thousands_of_members_arrives_whole() -> None:
    async with served() as at, connect(at.address, AUTH_KEY) as client:
        many = [make_member(f"n{number:05}", number % 250, zone=f"z{number % 7}") for number in range(5000)]
        at.backend.table = {member.node: member for member in many}
        assert await client.members() == tuple(many)
        assert len(await client.members_filtered({"zone": "z[01]"})) == 1430
