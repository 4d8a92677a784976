"""What a request to a Wasm instance costs, against the bare engine: `python -m simulations.bench.wasm`.

Bare is wasmtime's own Python binding: store, WASI, instantiate, run `_start`, in one
thread, with the environment that the request becomes and the output caught by a
callback, as the node must to pass on a long answer while it is produced. The engine
hands custom output over to a thread of its own; the node does not (`node.runtime.wasm.stdio`).
What bare costs when it writes to a file in memory that is read afterwards, which is
cheaper but can neither stream nor bound what waits, is shown without a goal.

Endpoint is a GET over a kept connection, from another process, to an instance that
starts the same module afresh. The goal is a ratio of at most 2. A component's line is
there for comparison; its host functions are Python.

Two cores and nothing else to do, medians:

    what                    result     bare wasmtime    ratio
    WAGI, fresh instance    0.436 ms   0.249 ms         1.75    <= 2   (output in a file: 0.206 ms, 2.12)
    wasi:http component     0.798 ms   0.249 ms         3.20
"""

import hashlib
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

import trio

from node.runtime.base import RuntimeEvent, Workload
from node.runtime.wasm.driver import WasmRuntime
from node.runtime.wasm.wagi import Request, make_environment
from orca.model.allocation import PrepareProgress
from orca.model.ids import AllocationId, BlobDigest, ClusterId, NodeId, ServiceId, ServiceName, SpecRevision
from orca.model.spec import PortSpec, ServiceSpec, WasmModule
from orca.model.units import Instant, WallMs
from simulations.bench.report import Line, show

REQUESTS = 2000
WARM_UP = 200
GOAL = 2.0
IN_MEMORY = Path("/dev/shm")  # a file system without a disk, on Linux
ROOT = Path(__file__).parents[2]
WAGI = ROOT / "orca" / "examples" / "hello" / "hello.wat"
COMPONENT = ROOT / "tests" / "node" / "runtime" / "wasm" / "component.wat"


class RealClock:
    """The computer's clocks."""

    def now(self) -> Instant:
        """Monotonic seconds."""
        return Instant(time.monotonic())

    def wall(self) -> WallMs:
        """Milliseconds since 1970."""
        return WallMs(time.time_ns() // 1_000_000)


def ignore(_event: RuntimeEvent | PrepareProgress) -> None:
    """Nobody needs to know."""


def bare_p50_ms(file: Path | None = None) -> float:
    """Of the engine alone; the output is caught by a callback, or in `file`."""
    import wasmtime

    config = wasmtime.Config()
    config.epoch_interruption = True
    engine = wasmtime.Engine(config)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    pre = linker.instantiate_pre(wasmtime.Module(engine, WAGI.read_text()))
    request = Request(method="GET", target=b"/bench", http_version="1.1", headers=[(b"host", b"bench")])
    names = ("ORCA_ALLOCATION", "ORCA_SERVICE", "ORCA_SLOT", "ORCA_NODE")
    environment = list(make_environment(request, dict.fromkeys(names, "bench")).items())
    took: list[float] = []
    for _ in range(REQUESTS + WARM_UP):
        started = time.perf_counter()
        output: list[bytes] = []
        wasi = wasmtime.WasiConfig()
        wasi.argv = ["hello"]
        wasi.env = environment
        if file is None:
            wasi.stdout_custom = output.append
        else:
            wasi.stdout_file = str(file)
        store = wasmtime.Store(engine)
        store.set_epoch_deadline(1000)
        store.set_wasi(wasi)
        start = pre.instantiate(store).exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        start(store)
        store.close()
        if file is not None:
            output.append(file.read_bytes())
        took.append(time.perf_counter() - started)
        assert b"Hello" in b"".join(output)
    return statistics.median(took[WARM_UP:]) * 1000


def client(port: int) -> None:
    """In a process of its own: print the p50 in ms of GETs on one connection."""
    took: list[float] = []
    request = b"GET /bench HTTP/1.1\r\nhost: bench\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(REQUESTS + WARM_UP):
            started = time.perf_counter()
            sock.sendall(request)
            answer = sock.recv(65536)
            took.append(time.perf_counter() - started)
            assert answer.startswith(b"HTTP/1.1 200"), answer
    print(statistics.median(took[WARM_UP:]) * 1000)


async def endpoint_p50_ms(directory: Path, source: Path) -> float:
    runtime = WasmRuntime(
        ClusterId("c-bench"), NodeId("n-bench"), RealClock(), cache_dir=directory, read_blob=lambda _digest: source
    )
    digest = BlobDigest("sha256:" + hashlib.sha256(source.name.encode()).hexdigest())
    spec = ServiceSpec(name=ServiceName("bench"), source=WasmModule(module=digest), ports=(PortSpec(port=80),))
    workload = Workload(
        allocation=AllocationId("bench"),
        service=ServiceId("default/bench"),
        revision=SpecRevision(1),
        template="",
        slot=0,
        cluster=ClusterId("c-bench"),
        node=NodeId("n-bench"),
        spec=spec,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(runtime.run, ignore)
        await runtime.prepare(workload, ignore)
        await runtime.create(workload)
        await runtime.start(workload.allocation)
        (endpoint,) = await runtime.endpoints(workload.allocation)
        command = [sys.executable, "-m", "simulations.bench.wasm", "--client", str(endpoint.host_port)]
        done = await trio.run_process(command, capture_stdout=True, cwd=ROOT)
        nursery.cancel_scope.cancel()
    return float(done.stdout)


def measure() -> list[Line]:
    """A request to a module, and to a component where its source is at hand."""
    with tempfile.TemporaryDirectory() as directory:
        bare = bare_p50_ms()
        took = {"WAGI, fresh instance, p50": trio.run(endpoint_p50_ms, Path(directory), WAGI)}
        if COMPONENT.exists():
            took["wasi:http component, p50"] = trio.run(endpoint_p50_ms, Path(directory), COMPONENT)
        bare = statistics.mean((bare, bare_p50_ms()))
    with tempfile.NamedTemporaryFile(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as file:
        bare_to_file = bare_p50_ms(Path(file.name))
    lines = [
        Line(
            bench="wasm",
            what=what,
            unit="ms",
            result=p50_ms,
            limit=bare,
            limit_name="(bare wasmtime)",
            goal=GOAL if what.startswith("WAGI") else None,
        )
        for what, p50_ms in took.items()
    ]
    wagi = lines[0]
    name = "(bare wasmtime, output in a file)"
    to_file = Line(bench="wasm", what=wagi.what, unit="ms", result=wagi.result, limit=bare_to_file, limit_name=name)
    return [*lines, to_file]


def main() -> None:
    """The client of a measurement, or all of it."""
    if sys.argv[1:2] == ["--client"]:
        client(int(sys.argv[2]))
    else:
        show(measure())


if __name__ == "__main__":
    main()
