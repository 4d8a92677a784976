"""The client against servers that lie, stall or break off."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from gossip.messages import Address
from gossip.rpc.driver import ANSWER_S, connect
from gossip.rpc.protocol import SERVER_LIMITS, ValueReader, decode_request_header, encode_reply_header, pack_value
from orca.errors import NodeUnreachableError, PeerProtocolError

pytestmark = pytest.mark.integration

Answer = Callable[[str, int], bytes | None]
"""What a server says to a command; None ends the connection."""


def obliging(command: str, seq: int) -> bytes | None:
    """Says yes to handshake and stream, and nothing to anything else."""
    return encode_reply_header(seq) if command in {"handshake", "stream"} else b""


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[Address]:
    async def serve(stream: trio.SocketStream) -> None:
        reader = ValueReader(SERVER_LIMITS)
        try:
            async for data in stream:
                reader.feed(bytes(data))
                while (value := reader.next()) is not None:
                    if b"Command" not in value[0]:
                        continue
                    said = answer(*decode_request_header(value[0]))
                    if said is None:
                        return
                    await stream.send_all(said)
        except trio.BrokenResourceError:
            pass  # the client hung up, as it should
        finally:
            await stream.aclose()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = Address(*listeners[0].socket.getsockname())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield address
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xc1",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        encode_reply_header(77),
        encode_reply_header(2) + pack_value("no map"),
        encode_reply_header(2) + pack_value({"Members": 7}),
        encode_reply_header(2) + pack_value({"Members": [{"Name": "n", "Addr": b"123"}]}),
        encode_reply_header(2) + b"\xdd\x00\x00\xff\xff" * 10,
    ],
)
async def test_what_is_no_answer_is_the_agents_fault(garbage: bytes) -> None:
    def answer(command: str, seq: int) -> bytes | None:
        return garbage if command == "members" else obliging(command, seq)

    async with answering(answer) as address, connect(address) as client:
        with pytest.raises(PeerProtocolError, match="what is no answer"):
            await client.members()


async def test_a_lost_connection_ends_calls_and_streams() -> None:
    def answer(command: str, seq: int) -> bytes | None:
        return None if command == "stats" else obliging(command, seq)

    async def follow() -> None:
        async with client.follow_events() as news:
            with pytest.raises(NodeUnreachableError, match="ended the connection"):
                await client.stats()
            assert [one async for one in news] == []

    async with answering(answer) as address, connect(address) as client:
        with pytest.raises(NodeUnreachableError, match="ended the connection"):
            await follow()
        with pytest.raises(NodeUnreachableError, match="ended the connection"):
            await client.members()


async def test_a_silent_agent_is_given_up_in_time(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.autojump_threshold = 0.2  # real seconds: what the kernel carries is not overtaken

    def answer(command: str, seq: int) -> bytes | None:
        return b"" if command == "members" else obliging(command, seq)

    async with answering(answer) as address, connect(address) as client:
        begun = trio.current_time()
        with pytest.raises(NodeUnreachableError, match="did not answer `members`"):
            await client.members()
        assert trio.current_time() - begun >= ANSWER_S
        async with client.follow_events():
            pass  # others are not held up by it


async def test_a_caller_that_gives_up_does_not_confuse_the_next_one() -> None:
    held: list[bytes] = []

    def answer(command: str, seq: int) -> bytes | None:
        if command == "members":
            held.append(encode_reply_header(seq) + pack_value({"Members": None}))
            return b""
        if command == "stats":
            return b"".join(held) + encode_reply_header(seq) + pack_value({"agent": {"name": "late"}})
        return obliging(command, seq)

    async with answering(answer) as address, connect(address) as client:
        with trio.move_on_after(0.1):
            await client.members()
        assert await client.stats() == {"agent": {"name": "late"}}
        assert held


async def test_a_stream_granted_too_late_is_stopped() -> None:
    heard: list[str] = []
    held: list[bytes] = []

    def answer(command: str, seq: int) -> bytes | None:
        heard.append(command)
        if command == "stream":
            record = encode_reply_header(seq) + pack_value({"Event": "user", "Name": "late"})
            held.append(encode_reply_header(seq) + record)
            return b""
        if command == "stats":
            return b"".join(held) + encode_reply_header(seq) + pack_value({})
        return obliging(command, seq) or encode_reply_header(seq)

    async with answering(answer) as address, connect(address) as client:
        with trio.move_on_after(0.1):
            async with client.follow_events():
                pass
        await client.stats()
        with trio.fail_after(10):
            while True:
                if "stop" in heard:
                    return
                await trio.sleep(0.02)


async def test_nobody_at_the_address_is_unreachable() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = Address(*listeners[0].socket.getsockname())
    await listeners[0].aclose()
    with pytest.raises(NodeUnreachableError, match=f"{address}"):
        async with connect(address):
            pass


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    async with answering(obliging) as address:
        with pytest.raises(KeyError, match="mine"):
            async with connect(address):
                raise KeyError("mine")
