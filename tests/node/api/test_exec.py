"""Exec as any WebSocket client sees it."""

import contextlib
from collections.abc import AsyncGenerator

import pytest
import trio
import trio_websocket

from tests.node.api.control import COPY, FakeControl
from tests.node.api.raw import serving

pytestmark = pytest.mark.integration


@pytest.fixture
async def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
async def url(control: FakeControl) -> AsyncGenerator[str, None]:
    async with serving(control) as addresses:
        host, port = addresses.tcp[0]
        yield f"ws://{host}:{port}/v1/allocations/{COPY}/exec"


@contextlib.asynccontextmanager
async def session(url: str, query: str) -> AsyncGenerator[trio_websocket.WebSocketConnection, None]:
    host, _, rest = url.removeprefix("ws://").partition(":")
    port, _, path = rest.partition("/")
    async with await trio.open_tcp_stream(host, int(port)) as stream, trio.open_nursery() as nursery:
        yield await trio_websocket.wrap_client_stream(nursery, stream, f"{host}:{port}", f"/{path}?{query}")
        nursery.cancel_scope.cancel()


async def test_frames_are_as_documented(url: str, control: FakeControl) -> None:
    async with session(url, "command=cat&stdin=1&tty=true&user=me&env=A%3D1") as websocket:
        assert await websocket.get_message() == b"\x02cat"
        await websocket.send_message(b"in")
        assert await websocket.get_message() == b"\x01in"
        await websocket.send_message('{"resize":[10,20]}')
        assert await websocket.get_message() == b"\x0110x20"
        await websocket.send_message('{"eof":true}')
        assert await websocket.get_message() == '{"exit_code":0}'
        with pytest.raises(trio_websocket.ConnectionClosed):
            await websocket.get_message()
    (call,) = control.calls
    assert str(call[2]) == (
        "ExecRequest(command=('cat',), tty=True, stdin=True, user='me', env={'A': '1'}, rows=24, columns=80)"
    )


@pytest.mark.parametrize("frame", ["{", '{"eof":1}', '{"resize":[0,1]}', '{"resize":[1]}', '{"other":1}'])
async def test_a_wrong_text_frame_ends_the_session_with_the_reason(url: str, control: FakeControl, frame: str) -> None:
    async with session(url, "command=wait") as websocket:
        await websocket.get_message()
        await websocket.send_message(frame)
        end = await websocket.get_message()
        assert isinstance(end, str)
        assert '"code":"invalid_request"' in end
        assert control.open_execs == 0


async def test_a_message_above_the_limit_ends_the_session(url: str, control: FakeControl) -> None:
    async with session(url, "command=wait") as websocket:
        await websocket.get_message()
        seen = control.change_count()
        await websocket.send_message(b"x" * (2**20 + 1))
        with trio.fail_after(20):
            await control.wait_change(seen)
    assert control.open_execs == 0


async def test_a_connection_that_vanishes_ends_the_command(url: str, control: FakeControl) -> None:
    host, _, rest = url.removeprefix("ws://").partition(":")
    port, _, path = rest.partition("/")
    stream = await trio.open_tcp_stream(host, int(port))
    await stream.send_all(
        f"GET /{path}?command=wait HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
    with trio.fail_after(20):
        while control.open_execs != 1:
            await trio.lowlevel.checkpoint()
        seen = control.change_count()
        await stream.aclose()
        await control.wait_change(seen)
    assert control.open_execs == 0
