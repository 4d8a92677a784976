"""Reads without an event loop say the same as the whole client, and fail in the same words."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from node.api.server import ApiListen
from orca.client import NodeAddress, open_client, plain_reads
from orca.errors import NodeUnreachableError, NotFoundError, OrcaError, PeerProtocolError
from orca.model.ids import ServiceId
from orca.model.view import DeployRequest
from tests.node.api.control import WEB, FakeControl, spec
from tests.node.api.raw import serving

pytestmark = pytest.mark.integration


def finished(coroutine: Any) -> Any:
    """What a coroutine that waits for nothing gives."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waited")


@pytest.mark.parametrize("way", ["tcp", "unix", "unix with a long path"])
async def test_every_read_gives_what_the_whole_client_gives(way: str, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120 if "long" in way else "x")
    folder.mkdir()
    path = str(folder / "api.sock")
    async with serving(FakeControl(), ApiListen(host="127.0.0.1", socket_path=path)) as addresses:
        host, port = addresses.tcp[0]
        address = NodeAddress(host=host, port=port) if way == "tcp" else NodeAddress(socket_path=path)
        reads = plain_reads(address)
        async with open_client(address) as client:
            await client.deploy(DeployRequest(specs=(spec("web"), spec("db"))))
            for name, values in (
                ("node", ()),
                ("services", ()),
                ("service", (WEB,)),
                ("history", (WEB,)),
                ("allocations", ()),
                ("stats", ()),
                ("events", ()),
                ("get_text", ("/v1/openapi.json",)),
            ):
                plain = await trio.to_thread.run_sync(lambda n=name, v=values: finished(getattr(reads, n)(*v)))  # type: ignore[misc]
                assert _settled(plain) == _settled(await getattr(client, name)(*values)), name
        with pytest.raises(NotFoundError, match="default/nope"):
            await trio.to_thread.run_sync(lambda: finished(reads.service(ServiceId("default/nope"))))


def _settled(reply: Any) -> Any:
    """Without the moment at which it was observed."""
    if isinstance(reply, str):
        return reply
    return {key: getattr(reply, key) for key in reply.__struct_fields__ if key not in {"observation", "started_at_ms"}}


@contextmanager
def answering(*answers: bytes, hangs: bool = False) -> Iterator[tuple[NodeAddress, list[bytes]]]:
    """A server that gives each connection the next answer, and notes what it was asked."""
    asked: list[bytes] = []
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    asked.append(connection.recv(65_536))
                    connection.sendall(answer)
                    if hangs:
                        done.wait(10)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        host, port = server.getsockname()
        yield NodeAddress(host=host, port=port), asked
        done.set()
        thread.join(10)


def ask(address: NodeAddress, **settings: Any) -> Callable[[], Any]:
    return lambda: finished(plain_reads(address, **settings).ping())


def test_nobody_there_is_said_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
    with pytest.raises(NodeUnreachableError, match="connection refused") as caught:
        ask(NodeAddress(host=host, port=port))()
    assert "orca up" in caught.value.hint


def test_a_connection_that_breaks_is_tried_once_more() -> None:
    with answering(b"", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok") as (address, asked):
        ask(address)()
    assert len(asked) == 2
    with (
        answering(b"", b"") as (address, _),
        pytest.raises(NodeUnreachableError, match="closed the connection before it answered"),
    ):
        ask(address)()


def test_silence_ends_at_the_deadline() -> None:
    with (
        answering(b"HTTP/1.1 200 OK\r\n", b"", hangs=True) as (address, _),
        pytest.raises(NodeUnreachableError, match=r"no answer within 0\.3 s"),
    ):
        ask(address, timeout_s=0.3)()


@pytest.mark.parametrize("noise", [b"220 mail ready\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"])
def test_an_answer_that_is_no_http_is_refused(noise: bytes) -> None:
    with answering(noise) as (address, _), pytest.raises(PeerProtocolError, match="no HTTP"):
        ask(address)()


def test_an_error_that_is_not_ours_is_told_apart() -> None:
    teapot = b"HTTP/1.1 418 Teapot\r\ncontent-length: 0\r\n\r\n"
    with answering(teapot) as (address, _), pytest.raises(OrcaError, match="status 418"):
        ask(address)()
