"""What a request to a Wasm instance costs, against the bare engine: `python -m simulations.bench.wasm`.

Bare is wasmtime's own Python binding: store, WASI, instantiate, run `_start`, in one
thread. Endpoint is a GET over a kept connection, from another process, to an instance
that starts the same module afresh. The goal is a ratio of at most 2. A component's
line is there for comparison; its host functions are Python.
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
from orca.model.allocation import PrepareProgress
from orca.model.ids import AllocationId, BlobDigest, ClusterId, NodeId, ServiceId, ServiceName, SpecRevision
from orca.model.spec import PortSpec, ServiceSpec, WasmModule
from orca.model.units import Instant, WallMs

REQUESTS = 2000
WARM_UP = 200
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


def bare_p50_ms() -> float:
    import wasmtime

    config = wasmtime.Config()
    config.epoch_interruption = True
    engine = wasmtime.Engine(config)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    pre = linker.instantiate_pre(wasmtime.Module(engine, WAGI.read_text()))
    environment = [("ORCA_ALLOCATION", "bench"), ("REQUEST_METHOD", "GET"), ("PATH_INFO", "/"), ("HTTP_HOST", "b")]
    took: list[float] = []
    for _ in range(REQUESTS + WARM_UP):
        started = time.perf_counter()
        output: list[bytes] = []
        wasi = wasmtime.WasiConfig()
        wasi.argv = ["hello"]
        wasi.env = environment
        wasi.stdout_custom = output.append
        store = wasmtime.Store(engine)
        store.set_epoch_deadline(1000)
        store.set_wasi(wasi)
        start = pre.instantiate(store).exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        start(store)
        store.close()
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


def main() -> None:
    if sys.argv[1:2] == ["--client"]:
        client(int(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as directory:
        bare = bare_p50_ms()
        wagi = trio.run(endpoint_p50_ms, Path(directory), WAGI)
        component = trio.run(endpoint_p50_ms, Path(directory), COMPONENT) if COMPONENT.exists() else None
        bare = statistics.mean((bare, bare_p50_ms()))
    print(f"bare wasmtime, WAGI module      p50 {bare:6.3f} ms")
    print(f"endpoint, WAGI, fresh instance  p50 {wagi:6.3f} ms   ratio {wagi / bare:4.2f} (goal <= 2)")
    if component is not None:
        print(f"endpoint, wasi:http component   p50 {component:6.3f} ms   ratio {component / bare:4.2f}")


if __name__ == "__main__":
    main()
