"""HTTP instances: what each request gets, whatever the guest does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import h11
import pytest
import trio

from node.runtime.base import InstanceState, Workload
from node.runtime.wasm.driver import WasmRuntime
from orca.errors import PortTakenError
from orca.model.spec import PortSpec, WasmWorld
from tests.contracts.runtime import collect, ignore_progress, launch, running
from tests.node.runtime.wasm import guests
from tests.node.runtime.wasm.guests import HEAD, WasmSubject

pytestmark = pytest.mark.integration

PORTS = (PortSpec(port=80),)
COMPONENT = (Path(__file__).parent / "component.wat").read_text()


@pytest.fixture
def subject(tmp_path: Path) -> WasmSubject:
    return WasmSubject(tmp_path)


class Answer:
    """One response as a client sees it; `is_whole` is False when it was cut."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.is_whole = False


class Client:
    """One keep-alive connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)

    async def get(
        self, path: str = "/", *, method: str = "GET", headers: tuple[tuple[str, str], ...] = (), body: bytes = b""
    ) -> Answer:
        http, answer = self.http, Answer()
        if http.our_state is h11.DONE:
            http.start_next_cycle()
        length = (("content-length", str(len(body))),) if body else ()
        request = h11.Request(method=method, target=path, headers=[("host", "test"), *headers, *length])
        data = (http.send(request) or b"") + (http.send(h11.Data(data=body)) or b"" if body else b"")
        with suppress(trio.BrokenResourceError):  # refused before it was all sent: the answer is there
            await self.stream.send_all(data + (http.send(h11.EndOfMessage()) or b""))
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError:
                return answer
            if event is h11.NEED_DATA:
                try:
                    http.receive_data(await self.stream.receive_some(65536))
                except trio.BrokenResourceError:
                    return answer
            elif isinstance(event, h11.Response):
                answer.status = event.status_code
                answer.headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                answer.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                answer.is_whole = True
                return answer
            elif isinstance(event, h11.ConnectionClosed):
                return answer


async def connect(runtime: WasmRuntime, workload: Workload) -> Client:
    endpoint = (await runtime.endpoints(workload.allocation))[0]
    return Client(await trio.open_tcp_stream(endpoint.host, endpoint.host_port))


@asynccontextmanager
async def serving(subject: WasmSubject, workload: Workload) -> AsyncIterator[tuple[WasmRuntime, Client]]:
    runtime = subject.make()
    async with running(runtime):
        await launch(runtime, workload)
        client = await connect(runtime, workload)
        async with client.stream:
            with trio.fail_after(60):
                yield runtime, client


async def until_in_flight(runtime: WasmRuntime, workload: Workload, count: int) -> None:
    """Until that many requests are being served."""
    while (await runtime.stats(workload.allocation)).processes != count:  # noqa: ASYNC110 - nothing announces it
        await trio.sleep(0.01)


async def log_text(runtime: WasmRuntime, workload: Workload) -> str:
    await trio.sleep(0.1)  # notes are written by another thread
    return "\n".join(line.text for line in await collect(runtime, workload.allocation))


async def test_hello_shows_allocation_method_and_path_on_one_kept_connection(subject: WasmSubject) -> None:
    workload = subject.serving()
    async with serving(subject, workload) as (_, client):
        first = await client.get("/a%20b?c=d")
        assert first.status == 200
        assert first.headers["content-type"].startswith("text/plain")
        text = first.body.decode()
        assert f"allocation  {workload.allocation}\n" in text
        assert "method      GET\n" in text
        assert "path        /a b\n" in text
        for _ in range(20):
            assert (await client.get("/again", method="POST", body=b"x")).status == 200
        head = await client.get("/", method="HEAD")
        assert (head.status, bytes(head.body)) == (200, b"")
        assert int(head.headers["content-length"]) > 50


async def test_request_body_arrives_on_stdin_and_a_large_one_comes_back_streamed(subject: WasmSubject) -> None:
    body = bytes(range(256)) * 4096
    async with serving(subject, subject.workload(guests.ECHO, ports=PORTS)) as (_, client):
        assert bytes((await client.get("/", method="POST", body=b"hello")).body) == b"hello"
        answer = await client.get("/", method="POST", body=body)
        assert bytes(answer.body) == body
        assert answer.headers.get("transfer-encoding") == "chunked"


async def test_body_over_the_limit_is_refused_with_413(subject: WasmSubject) -> None:
    async with serving(subject, subject.workload(guests.ECHO, ports=PORTS)) as (_, client):
        assert (await client.get("/", method="POST", body=bytes(10 * 2**20 + 1))).status == 413


@pytest.mark.parametrize(
    ("source", "status", "word"),
    [
        (guests.TRAP, 500, "unreachable"),
        (guests.OVERFLOW, 500, "call stack exhausted"),
        (guests.EATER, 500, "out of memory"),
        (guests.TOO_BIG, 500, "out of memory"),
        (guests.LOOP, 504, "time limit"),
        (guests.sleeping(60_000, HEAD), 504, "time limit"),
        (guests.answer("no header here"), 502, "no response"),
        (guests.answer(""), 502, "empty"),
        (guests.answer("status: 99\n\nx"), 502, "status"),
        (guests.exiting(3), 500, ""),
    ],
    ids=["trap", "overflow", "eater", "too-big", "loop", "sleeper", "no-head", "nothing", "bad-status", "exit-3"],
)
async def test_bad_guest_costs_its_own_request_only(subject: WasmSubject, source: str, status: int, word: str) -> None:
    workload = subject.workload(source, ports=PORTS, timeout_s=0.4, memory_bytes=32 * 2**20)
    async with serving(subject, workload) as (runtime, client):
        answer = await client.get("/")
        assert answer.status == status
        assert answer.is_whole
        assert word in await log_text(runtime, workload)
        assert (await runtime.status(workload.allocation)).state is InstanceState.RUNNING
        again = await connect(runtime, workload)
        async with again.stream:
            assert (await again.get("/")).status == status


async def test_status_location_and_other_headers_of_the_guest_are_kept_and_framing_is_not(subject: WasmSubject) -> None:
    source = guests.answer("Status: 201 Created\nX-A: 1\nContent-Length: 999\nConnection: close\n\nmade")
    async with serving(subject, subject.workload(source, ports=PORTS)) as (_, client):
        answer = await client.get("/")
        assert (answer.status, answer.headers["x-a"], answer.headers["content-length"]) == (201, "1", "4")
        assert bytes(answer.body) == b"made"
        assert "connection" not in answer.headers
    async with serving(subject, subject.workload(guests.answer("Location: /b\n\n"), ports=PORTS)) as (_, client):
        assert (await client.get("/")).status == 302


async def test_100_mb_of_output_stream_through_little_memory(subject: WasmSubject) -> None:
    workload = subject.workload(guests.flooding(100, HEAD), ports=PORTS, timeout_s=60.0)
    async with serving(subject, workload) as (_, client):
        answer = await client.get("/")
        assert answer.is_whole
        assert len(answer.body) == 100 * 2**20


async def test_guest_whose_client_left_is_cut(subject: WasmSubject) -> None:
    workload = subject.workload(guests.flooding(1000, HEAD), ports=PORTS, timeout_s=60.0)
    async with serving(subject, workload) as (runtime, client):
        await client.stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await client.stream.receive_some(1000)
        await client.stream.aclose()
        await until_in_flight(runtime, workload, 0)


async def test_stop_lets_a_request_in_flight_end_and_refuses_new_connections(subject: WasmSubject) -> None:
    workload = subject.workload(guests.sleeping(400, HEAD + "done"), ports=PORTS)
    async with serving(subject, workload) as (runtime, client):
        answers: list[Answer] = []

        async def ask() -> None:
            answers.append(await client.get("/"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await until_in_flight(runtime, workload, 1)
            endpoint = (await runtime.endpoints(workload.allocation))[0]
            await runtime.stop(workload.allocation, 10.0)
        assert answers[0].status == 200
        assert bytes(answers[0].body) == b"done"
        assert (await runtime.status(workload.allocation)).exit_code == 143
        with pytest.raises(OSError, match=r"connecting|attempts|refused"):
            await trio.open_tcp_stream(endpoint.host, endpoint.host_port)


async def test_stop_cuts_a_request_that_outlasts_its_patience(subject: WasmSubject) -> None:
    workload = subject.workload(guests.LOOP, ports=PORTS, timeout_s=60.0)
    async with serving(subject, workload) as (runtime, client), trio.open_nursery() as nursery:
        nursery.start_soon(client.get, "/")
        await until_in_flight(runtime, workload, 1)
        with trio.fail_after(10):
            await runtime.stop(workload.allocation, 0.1)


async def test_many_requests_at_once_are_all_answered(subject: WasmSubject) -> None:
    workload = subject.workload(guests.sleeping(30, HEAD + "ok"), ports=PORTS)
    async with serving(subject, workload) as (runtime, _):
        statuses: list[int] = []

        async def ask() -> None:
            client = await connect(runtime, workload)
            async with client.stream:
                for _ in range(3):
                    statuses.append((await client.get("/")).status)

        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(ask)
        assert statuses == [200] * 120


async def test_published_host_port_is_served_and_a_taken_one_is_refused(subject: WasmSubject) -> None:
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        ports = (PortSpec(port=80, host_port=port, host_ip="127.0.0.1"),)
        workload = subject.workload(guests.answer(HEAD + "x"), ports=ports)
        runtime = subject.make()
        async with running(runtime):
            await runtime.prepare(workload, ignore_progress)
            await runtime.create(workload)
            with pytest.raises(PortTakenError):
                await runtime.start(workload.allocation)
            assert (await runtime.status(workload.allocation)).state is InstanceState.CREATED
            taken.close()
            await runtime.start(workload.allocation)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                assert (await Client(stream).get("/")).status == 200


async def test_malformed_request_is_answered_400_and_hurts_nobody(subject: WasmSubject) -> None:
    async with serving(subject, subject.serving()) as (runtime, client):
        await client.stream.send_all(b"GET / HTTP/1.1\r\nno colon here\r\n\r\n")
        assert (await client.stream.receive_some(100)).startswith(b"HTTP/1.1 400")
        assert (await runtime.list_instances())[0].state is InstanceState.RUNNING


async def test_component_answers_and_its_traps_and_loops_cost_one_request(subject: WasmSubject) -> None:
    workload = subject.workload(COMPONENT, ports=PORTS, timeout_s=0.5)
    async with serving(subject, workload) as (runtime, client):
        answer = await client.get("/some/path?q=1")
        assert (answer.status, bytes(answer.body)) == (200, b"/some/path?q=1")
        for path, status in (("/!", 500), ("/?", 504), ("/fine", 200)):
            other = await connect(runtime, workload)
            async with other.stream:
                assert (await other.get(path)).status == status, await log_text(runtime, workload)


async def test_component_serves_many_clients_from_several_threads(subject: WasmSubject) -> None:
    """Upstream's shared set failed 245 of 600 such calls in 4 threads."""
    workload = subject.workload(COMPONENT, world=WasmWorld.HTTP, ports=PORTS)
    async with serving(subject, workload) as (runtime, _):
        answers: list[tuple[int, bytes]] = []

        async def ask(number: int) -> None:
            client = await connect(runtime, workload)
            async with client.stream:
                for turn in range(40):
                    answer = await client.get(f"/{number}/{turn}")
                    answers.append((answer.status, bytes(answer.body)))

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(ask, number)
        expected = [(200, f"/{number}/{turn}".encode()) for number in range(8) for turn in range(40)]
        assert sorted(answers) == sorted(expected)
