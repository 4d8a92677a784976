"""What a node costs that has nothing to do: `python -m simulations.bench.idle`.

The limit is an interpreter that has imported what a node cannot do without, and waits.

Installed as users install it; two cores and nothing else to do:

    what                             result                     goal
    empty node                       58.3 MB, 0.08 % of a core  <= 80 MB, <= 0.5 %   (bare trio: 26.7 MB, 0 %)
    2 Wasm, 2 containers             78.9 MB, 0.09 % of a core  <= 80 MB, <= 0.5 %

The developers' tools bring rich, which structlog imports where it is installed: 4 MB that users do not have. Of what
four services add, 12 MB are wasmtime, of which 8 MB are the pages of its library, and 7 MB Docker's SDK.
"""

import hashlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from orca.model.ids import BlobDigest, ServiceName
from orca.model.spec import ContainerImage, PortSpec, PullPolicy, ServiceSpec, WasmModule, WorkloadSource
from simulations.bench.node_process import NodeProcess, route_of, running_node
from simulations.bench.report import Line, say, show
from simulations.bench.sandbox import COMMAND, IMAGE, PORT, ROOT, EngineSocket, run_inside, until

WATCH_S: Final = 20.0
SETTLE_S: Final = 5.0
RSS_GOAL_MB: Final = 80.0
CPU_GOAL_PERCENT: Final = 0.5
_BARE: Final = "import trio, h11, msgspec, lmdb; print(flush=True); trio.run(trio.sleep_forever)"
_HELLO: Final = ROOT / "orca" / "examples" / "hello" / "hello.wat"


def _memory_mb(pid: int) -> tuple[float, float]:
    """Resident and proportional size."""
    sizes: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        key, _, rest = line.partition(":")
        if key in {"Rss", "Pss"}:
            sizes[key] = int(rest.split()[0]) / 1024
    return sizes["Rss"], sizes["Pss"]


def _cpu_s(pid: int) -> float:
    """Processor time of a process so far, that of its ended threads included."""
    # clock_getcpuclockid(3), which Python has for threads only; 2 is the scheduler's own nanoseconds
    return time.clock_gettime((~pid << 3) | 2)


def _switches(pid: int) -> dict[str, int]:
    """How often each of its threads has gone to sleep by itself: about one a wake-up."""
    found: dict[str, int] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        found[task.name] = int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


class Usage:
    """What one process used while it was watched."""

    def __init__(self, pid: int) -> None:
        cpu_s, switches, started = _cpu_s(pid), _switches(pid), time.monotonic()
        time.sleep(WATCH_S)
        passed_s = time.monotonic() - started
        self.cpu_percent = (_cpu_s(pid) - cpu_s) / passed_s * 100
        self.wakes_per_s = sum(after - switches.get(task, 0) for task, after in _switches(pid).items()) / passed_s
        self.rss_mb, self.pss_mb = _memory_mb(pid)

    def lines(self, what: str, limit: "Usage") -> list[Line]:
        """Its lines of the table."""
        say(f"idle: {what}: {self.wakes_per_s:.1f} wake-ups a second")
        return [
            Line(
                bench="idle",
                what=f"{what}: {measure}",
                unit=unit,
                result=result,
                limit=bare,
                limit_name="(bare trio)",
                goal=goal,
                is_goal_of_ratio=False,
            )
            for measure, unit, result, bare, goal in (
                ("RSS", "MB", self.rss_mb, limit.rss_mb, RSS_GOAL_MB),
                ("PSS", "MB", self.pss_mb, limit.pss_mb, None),
                ("CPU", "%", self.cpu_percent, limit.cpu_percent, CPU_GOAL_PERCENT),
            )
        ]


def _bare() -> Usage:
    with subprocess.Popen([sys.executable, "-c", _BARE], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1)
        try:
            return Usage(process.pid)
        finally:
            process.kill()


def _specs(node: NodeProcess) -> list[ServiceSpec]:
    """Two Wasm and two container services."""
    content = _HELLO.read_bytes()
    module = BlobDigest("sha256:" + hashlib.sha256(content).hexdigest())
    node.call("PUT", f"/v1/blobs/{module}", content, "application/octet-stream")
    container = ContainerImage(image=IMAGE, pull=PullPolicy.NEVER, command=COMMAND)
    sources: tuple[WorkloadSource, ...] = (
        WasmModule(module=module),
        WasmModule(module=module),
        container,
        container,
    )
    return [
        ServiceSpec(
            name=ServiceName(f"idle{number}"),
            source=source,
            ports=(PortSpec(port=PORT),),
            routes=route_of(f"idle{number}"),
        )
        for number, source in enumerate(sources)
    ]


def measure(directory: Path, engine: EngineSocket) -> list[Line]:
    """A bare process, a node with nothing, and the same node with four services."""
    bare = _bare()
    with running_node(directory, docker_url=f"unix://{directory / 'd.sock'}") as node:
        time.sleep(SETTLE_S)
        lines = Usage(node.pid).lines("empty node", bare)
        specs = _specs(node)
        node.deploy(*specs)
        for spec in specs:
            until(lambda name=spec.name: node.ask(name), f"{spec.name} answers", pause_s=0.1)  # type: ignore[misc]
        time.sleep(SETTLE_S)
        lines += Usage(node.pid).lines("2 Wasm, 2 containers", bare)
        for spec in specs:
            node.call("DELETE", f"/v1/services/default/{spec.name}")
        until(lambda: not engine.call("GET", "/containers/json?all=1"), "all containers are gone", pause_s=0.1)
    return lines


def main() -> list[Line]:
    """Measure in a sandbox."""
    return run_inside("simulations.bench.idle", measure)


if __name__ == "__main__":
    show(main())
