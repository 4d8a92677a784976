"""Every method of the client against the real server, over TCP and a unix socket."""

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
import trio

from node.api.server import ApiListen
from orca.client import ExecOutput, NodeAddress, NodeClient, open_client
from orca.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NodeUnreachableError,
    NotFoundError,
    NotLeaderError,
    OrcaError,
    PeerProtocolError,
    ProposalLostError,
    RuntimeFailedError,
)
from orca.model.ids import AllocationId, BlobDigest, RequestId, ServiceId, SpecRevision
from orca.model.view import DeployRequest, ImageBuild
from tests.node.api.control import COPY, NODE, WEB, FakeControl, event, spec
from tests.node.api.raw import serving

pytestmark = pytest.mark.integration


@pytest.fixture
async def control() -> FakeControl:
    return FakeControl()


@pytest.fixture(params=["tcp", "unix"])
async def client(
    control: FakeControl, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncGenerator[NodeClient, None]:
    path = str(tmp_path / "api.sock")
    async with serving(control, ApiListen(host="127.0.0.1", socket_path=path)) as addresses:
        host, port = addresses.tcp[0]
        address = NodeAddress(host=host, port=port) if request.param == "tcp" else NodeAddress(socket_path=path)
        async with open_client(address) as made:
            yield made


async def test_reads_and_changes_come_back_as_their_types(client: NodeClient, control: FakeControl) -> None:
    await client.ping()
    reply = await client.deploy(DeployRequest(specs=(spec("web"), spec("db"))))
    assert [change.service for change in reply.changes] == ["default/web", "default/db"]
    assert (await client.status()).leader == NODE
    assert (await client.node()).facts.id == NODE
    assert len((await client.services()).services) == 2
    assert (await client.service(WEB)).spec == spec("web")
    assert (await client.history(WEB)).revisions[0].is_current
    assert (await client.allocations(WEB)).allocations == ()
    assert (await client.stats(service=WEB)).stats[0].cpu_milli == 5
    assert (await client.plan(DeployRequest(specs=(spec("new"),)))).services[0].service == "default/new"
    await client.scale(WEB, 4)
    assert control.specs[WEB].replicas == 4
    for change in (client.stop, client.start, client.restart, client.rollback, client.remove):
        assert (await change(WEB)).changes[0].service == WEB
    assert '"openapi":"3.1.0"' in await client.get_text("/v1/openapi.json")


async def test_each_change_carries_a_request_id_of_its_own(client: NodeClient, control: FakeControl) -> None:
    await client.deploy(DeployRequest(specs=(spec("web"),)))
    await client.deploy(DeployRequest(specs=(spec("web"),), request_id=RequestId("mine")))
    await client.scale(WEB, 2)
    await client.stop(WEB)
    await client.rollback(WEB)
    await client.remove(WEB)
    ids = [getattr(request, "request_id") for _, _, request in control.calls]  # noqa: B009
    assert all(ids)
    assert len(set(ids)) == 6
    assert ids[1] == "mine"


async def test_errors_come_back_as_the_class_that_the_node_raised(client: NodeClient, control: FakeControl) -> None:
    with pytest.raises(NotFoundError, match="default/nope"):
        await client.service(ServiceId("default/nope"))
    with pytest.raises(ConflictError, match="99"):
        await client.rollback(WEB, SpecRevision(99))
    with pytest.raises(InvalidRequestError, match="0 or more"):
        await client.scale(WEB, -1)
    with pytest.raises(NotFoundError):
        async with client.logs(service=ServiceId("default/nope")):
            pass
    control.crash = RuntimeError("bug")
    with pytest.raises(OrcaError, match="failed to answer") as caught:
        await client.status()
    assert caught.value.code == "internal"


async def test_ten_thousand_events_are_read_by_pages_and_then_followed(
    client: NodeClient, control: FakeControl
) -> None:
    await control.publish(*(event(number) for number in range(1, 10_001)))
    seen: list[int] = []
    after = 0
    while (page := await client.events(after=after, limit=1000)).events:
        seen += [found.sequence for found in page.events]
        after = page.last_sequence
    assert seen == list(range(1, 10_001))
    assert [found.sequence for found in (await client.events(limit=2)).events] == [9_999, 10_000]
    async with client.follow_events(after=9_999) as events:
        assert (await anext(events)).sequence == 10_000
        await control.publish(event(10_001))
        assert (await anext(events)).sequence == 10_001


async def test_a_watch_follows_changes(client: NodeClient, control: FakeControl) -> None:
    await client.deploy(DeployRequest(specs=(spec("web"),)))
    async with client.watch_services((WEB,)) as replies:
        assert (await anext(replies)).services[0].replicas == 1
        await client.scale(WEB, 2)
        assert (await anext(replies)).services[0].replicas == 2


async def test_logs_are_records_and_their_failure_is_raised(client: NodeClient, control: FakeControl) -> None:
    async with client.logs() as records:
        assert [record.text async for record in records] == ["line 0", "line 1", "line 2"]
    async with client.logs(tail=1) as records:
        assert (await anext(records)).text == "line 2"
        with pytest.raises(RuntimeFailedError, match="engine went away"):
            await anext(records)
    async with client.logs(follow=True) as records:
        await anext(records)
        assert control.open_logs == 1
        seen = control.change_count()
    with trio.fail_after(20):
        await control.wait_change(seen)
    assert control.open_logs == 0


async def test_contents_are_put_and_found_by_their_hash(client: NodeClient) -> None:
    content = bytes(range(256)) * 10_000
    digest = BlobDigest(f"sha256:{hashlib.sha256(content).hexdigest()}")
    assert not await client.has_blob(digest)
    assert await client.put_blob(digest, content)
    assert not await client.put_blob(digest, content)
    assert await client.has_blob(digest)
    with pytest.raises(InvalidRequestError, match="the content is not"):
        await client.put_blob(digest, b"other")


class Pieces(AsyncIterator[bytes]):
    def __init__(self, count: int) -> None:
        self.left = count

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return b"x" * 100_000


async def test_a_build_sends_its_tar_and_gives_the_lines(client: NodeClient, control: FakeControl) -> None:
    async with client.build(Pieces(30), ImageBuild(tag="web:1", args={"A": "b=c d"})) as lines:
        got = [line async for line in lines]
    assert got[0] == "building web:1"
    assert got[-1] == "read 3000000"
    assert control.calls == [("build", "web:1", ImageBuild(tag="web:1", args={"A": "b=c d"}))]
    async with client.build(Pieces(1), ImageBuild(tag="web:1", target="broken")) as lines:
        with pytest.raises(RuntimeFailedError, match="step 2 failed"):
            _ = [line async for line in lines]


async def test_exec_carries_input_output_size_and_exit_code(client: NodeClient, control: FakeControl) -> None:
    async with client.exec(COPY, ("cat", "-n", "a b&c"), stdin=True, rows=30, columns=100) as channel:
        assert await channel.receive() == (ExecOutput.STDERR, b"cat -n a b&c")
        await channel.send(b"\x00\xff" * 50_000)
        received = b""
        while len(received) < 100_000:
            piece = await channel.receive()
            assert piece is not None
            assert piece[0] is ExecOutput.STDOUT
            received += piece[1]
        assert received == b"\x00\xff" * 50_000
        await channel.resize(50, 132)
        assert await channel.receive() == (ExecOutput.STDOUT, b"50x132")
        await channel.close_stdin()
        assert await channel.receive() is None
        assert await channel.exit_code() == 0
    async with client.exec(COPY, ("exit", "42"), env={"A": "b=c"}) as channel:
        assert await channel.exit_code() == 42
    assert getattr(control.calls[-1][2], "env") == {"A": "b=c"}  # noqa: B009


async def test_exec_tells_why_there_is_no_session(client: NodeClient) -> None:
    with pytest.raises(NotFoundError, match="no copy"):
        async with client.exec(AllocationId("bbbbbbbbbbbb"), ("sh",)):
            pass
    async with client.exec(COPY, ("fail",)) as channel:
        with pytest.raises(RuntimeFailedError, match="no such program"):
            await channel.exit_code()
    with pytest.raises(InvalidRequestError, match="command"):
        async with client.exec(COPY, ()):
            pass


async def test_a_client_that_leaves_ends_the_command(client: NodeClient, control: FakeControl) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with client.exec(COPY, ("wait",), stdin=True) as channel:
            await channel.receive()
            assert control.open_execs == 1
            seen = control.change_count()
            raise ZeroDivisionError  # the body's own error comes out as it is
    with trio.fail_after(20):
        await control.wait_change(seen)
    assert control.open_execs == 0


async def test_a_call_is_repeated_while_nobody_leads_and_a_conflict_is_not(
    client: NodeClient, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orca.client.wire.ELECTION_PATIENCE_S", 0.5)
    control.reject = [NotLeaderError("elsewhere")]
    await client.deploy(DeployRequest(specs=(spec("web"),)))
    assert len(control.calls) == 2
    assert control.calls[0][2] == control.calls[1][2]
    control.reject = [NotLeaderError("elsewhere"), ProposalLostError("who knows"), NotLeaderError("still")]
    await client.scale(WEB, 1)
    assert len({getattr(request, "request_id") for _, _, request in control.calls[2:]}) == 1  # noqa: B009
    control.reject = [NotLeaderError("for ever") for _ in range(100)]
    with pytest.raises(NotLeaderError, match="for ever"):
        await client.scale(WEB, 1)
    assert 3 <= 100 - len(control.reject) <= 20
    control.calls.clear()
    control.reject = [ConflictError("taken")]
    with pytest.raises(ConflictError):
        await client.scale(WEB, 1)
    assert len(control.calls) == 1


@contextlib.asynccontextmanager
async def answering(*answers: bytes) -> AsyncGenerator[tuple[NodeAddress, list[bytes]], None]:
    """A server that reads one piece of each connection, sends the next of `answers` and closes."""
    left = list(answers)
    heard: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            heard.append(bytes(await stream.receive_some()))
            await stream.send_all(left.pop(0) if left else b"")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        yield NodeAddress(host="127.0.0.1", port=port), heard
        nursery.cancel_scope.cancel()


async def test_a_write_lost_twice_is_reported_as_unknown_and_a_read_as_unreachable() -> None:
    async with answering() as (address, heard), open_client(address) as client:
        with pytest.raises(ProposalLostError, match="unknown whether"):
            await client.scale(WEB, 3)
        assert len(heard) == 2
        assert heard[0].partition(b"\r\n\r\n")[2] == heard[1].partition(b"\r\n\r\n")[2]
        with pytest.raises(NodeUnreachableError, match="closed the connection"):
            await client.status()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>",
    ],
)
async def test_a_server_that_is_no_orca_node_is_a_protocol_error(answer: bytes) -> None:
    async with answering(answer) as (address, _), open_client(address) as client:
        with pytest.raises(PeerProtocolError):
            await client.status()


async def test_no_node_is_told_with_the_address_and_the_way_out(tmp_path: Path) -> None:
    for address in (NodeAddress(host="127.0.0.1", port=1), NodeAddress(socket_path=str(tmp_path / "api.sock"))):
        async with open_client(address) as client:
            with pytest.raises(NodeUnreachableError, match=str(address)) as caught:
                await client.status()
            assert "orca up" in caught.value.hint
            with pytest.raises(NodeUnreachableError):
                async with client.logs():
                    pass
            with pytest.raises(NodeUnreachableError):
                async with client.exec(COPY, ("sh",)):
                    pass


async def test_a_node_that_says_nothing_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        port = listener.socket.getsockname()[1]
        async with open_client(NodeAddress(host="127.0.0.1", port=port), timeout_s=5) as client:
            with pytest.raises(NodeUnreachableError, match="no answer within 5 s"):
                await client.status()
            assert trio.current_time() < 12


async def test_a_foreign_name_is_refused_by_the_node(control: FakeControl) -> None:
    async with serving(control) as addresses:
        host, port = addresses.tcp[0]
        async with open_client(NodeAddress(host=host, port=port)) as client:
            client._caller._http._host = "evil.example"
            with pytest.raises(ForbiddenError):
                await client.status()


def test_importing_the_client_does_not_load_websockets() -> None:
    code = "import sys, orca.client; print('trio_websocket' in sys.modules, 'wsproto' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
