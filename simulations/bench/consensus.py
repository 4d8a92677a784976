"""The group beside etcd and PySyncObj: `python -m simulations.bench.consensus`.

Three voters each, on this computer and the same disk; etcd and ours sync every write. The load comes from a process of
its own over one connection to the leader, with 1, 64 and 1,000 puts in flight; PySyncObj makes
it inside its leader and does not sync. Then, for ours: what a quiet group costs, what
100,000 commands leave in memory, and how fast a follower that missed them catches up.

On 2 cores, ours and etcd through grpcio, 100 B: what a single writer waits for, as the median of three rounds one
after the other, and what 64 and 1,000 in flight come to, ours the mean of two runs and etcd's one between them. A write
and its sync took 0.4 ms meanwhile.

======================  ======  =====
in flight                 ours   etcd
======================  ======  =====
1: p50, ms                 2.9    1.9
64: commits/s            9,700  3,800
1,000: commits/s        19,600  4,900
======================  ======  =====

A quiet leader takes 0.9 % of a core for its heartbeats, one of etcd's 1.5 to 2.1 %; after 100,000 commands it takes
63 MB without the tools of developers, of which more than 40 are there once all is imported.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from simulations.bench.authority import AUTHORITY, CLUSTER, Authority
from simulations.bench.consensus_load import Load
from simulations.bench.idle import Usage
from simulations.bench.node_process import free_port
from simulations.bench.report import Line, say, show
from simulations.bench.sandbox import ROOT, until

IN_FLIGHT: Final = (1, 64, 1_000)
SIZES: Final = (100, 1_024)
VOTERS: Final = 3
LOAD_S: Final = 5.0
COMMANDS: Final = 100_000
KEPT: Final = 5_000
CATCH_UP_S: Final = 10.0
RSS_MB: Final = 60.0
IDLE_PERCENT: Final = 0.5
SYNCS: Final = 200
_SETTLE_S: Final = 30.0
_GOALS: Final = {1: 1.2, 64: 0.5, 1_000: 0.5}
_PEERS: Final[dict[str, tuple[str, dict[int, float]]]] = {
    "grpc": ("etcd from Python", _GOALS),
    "etcd": ("etcd, bare client", {}),
    "pysyncobj": ("PySyncObj, not synced", {}),
}
"""What each is called in the table, and the goals beside it."""


class Group(Protocol):
    """Three voters under load."""

    def load(self, in_flight: int, size: int) -> Load:
        """Puts on the leader."""
        ...

    def stop(self) -> None:
        """End all of them."""
        ...


MEMBER: Final = "simulations.bench.consensus_member"


class Worker:
    """A process that takes orders on its standard input."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self._process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    def hear(self) -> dict[str, Any]:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.words[:2])} ended by itself: {self._process.wait()}")
        try:
            return msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise RuntimeError(f"{' '.join(self.words[:2])} said {line!r}") from error

    def ask(self, *words: object) -> dict[str, Any]:
        """Its answer to an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        return self.hear()

    def kill(self) -> None:
        """`kill -9`."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


class Orca:
    """Our three."""

    def __init__(self, folder: Path, *, kept: int = KEPT, module: str = MEMBER) -> None:
        self._module = module
        self._ports = {f"n{number}": free_port() for number in range(1, VOTERS + 1)}
        self._doors = {name: free_port() for name in self._ports}
        self._folder = folder
        self._kept = kept
        Authority(folder / AUTHORITY, CLUSTER)  # made before the members want their certificates at once
        self.workers: dict[str, Worker] = {}
        for name in self._ports:
            self.start(name)
        self.leader = ""
        until(self._is_led, "a leader", pause_s=0.1, timeout_s=_SETTLE_S)
        self.workers[self.leader].ask("prepare")

    def start(self, name: str) -> Worker:
        """Start a member; returns when it listens."""
        peers = [f"{peer}={port}" for peer, port in self._ports.items()]
        words = (self._module, name, self._folder / name, self._doors[name], self._kept, *peers)
        worker = self.workers[name] = Worker(tuple(map(str, words)))
        worker.hear()
        return worker

    def _is_led(self) -> bool:
        leaders = [name for name, worker in self.workers.items() if worker.ask("state")["leads"]]
        self.leader = leaders[0] if leaders else ""
        return len(leaders) == 1

    def load(self, in_flight: int, size: int) -> Load:
        """Puts on the leader."""
        return _load("orca", self._doors[self.leader], in_flight, size)

    def stop(self) -> None:
        """Kill them."""
        for worker in self.workers.values():
            worker.kill()


class Etcd:
    """Three etcd servers with their defaults."""

    def __init__(self, folder: Path, client: str = "etcd") -> None:
        clients = [free_port() for _ in range(VOTERS)]
        peers = [free_port() for _ in range(VOTERS)]
        cluster = ",".join(f"e{number}=http://127.0.0.1:{port}" for number, port in enumerate(peers))
        self._processes = []
        for number in range(VOTERS):
            own, peer = (f"http://127.0.0.1:{ports[number]}" for ports in (clients, peers))
            command = [
                "etcd", "--name", f"e{number}", "--data-dir", str(folder / f"e{number}"), "--log-level", "error",
                "--listen-client-urls", own, "--advertise-client-urls", own, "--listen-peer-urls", peer,
                "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster,
            ]  # fmt: skip
            environment = {**os.environ, "ETCD_UNSUPPORTED_ARCH": os.uname().machine}
            self._processes.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
        self._leader = 0
        self._client = client

        def is_led() -> bool:
            leaders = [port for port in clients if "\netcd_server_is_leader 1" in _metrics(port)]
            self._leader = leaders[0] if leaders else 0
            return bool(leaders)

        until(is_led, "etcd has a leader", pause_s=0.2, timeout_s=_SETTLE_S)

    def load(self, in_flight: int, size: int) -> Load:
        """Puts on the leader."""
        return _load(self._client, self._leader, in_flight, size)

    def stop(self) -> None:
        """Kill them."""
        for process in self._processes:
            process.kill()
            process.wait()


class PySyncObj:
    """Three of PySyncObj, with a journal."""

    def __init__(self, folder: Path) -> None:
        names = [f"127.0.0.1:{free_port()}" for _ in range(VOTERS)]
        self._workers = [
            Worker(
                (
                    "simulations.bench.pysyncobj_member", own, *(name for name in names if name != own),
                    str(folder / f"journal{number}"),
                )
            )
            for number, own in enumerate(names)
        ]  # fmt: skip
        self._leader = self._workers[0]

        def is_led() -> bool:
            leaders = [worker for worker in self._workers if worker.ask("state")["leads"]]
            self._leader = leaders[0] if leaders else self._leader
            return bool(leaders)

        until(is_led, "PySyncObj has a leader", pause_s=0.2, timeout_s=_SETTLE_S)

    def load(self, in_flight: int, size: int) -> Load:
        """Puts in the leader."""
        return msgspec.convert(self._leader.ask(in_flight, size, LOAD_S), Load)

    def stop(self) -> None:
        """Kill them."""
        for worker in self._workers:
            worker.kill()


def _missing() -> dict[str, str]:
    """What cannot be compared here, and why."""
    missing: dict[str, str] = {}
    if shutil.which("etcd") is None:
        missing |= dict.fromkeys(("etcd", "grpc"), "etcd is not installed (Debian: etcd-server)")
    elif find_spec("grpc") is None:
        missing["grpc"] = "grpcio is not installed (the extra `bench`)"
    if find_spec("pysyncobj") is None:
        missing["pysyncobj"] = "PySyncObj is not installed (the extra `bench`)"
    return missing


def _metrics(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as reply:
            content: bytes = reply.read()
            return content.decode()
    except OSError:
        return ""


def _load(kind: str, port: int, in_flight: int, size: int) -> Load:
    words = ("simulations.bench.consensus_load", kind, port, in_flight, size, LOAD_S)
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{kind} took no load: {done.stderr.strip()}")
    return msgspec.json.decode(done.stdout, type=Load)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="orca-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sync_ms(folder: Path) -> float:
    """The median of one small write and its sync on this disk."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[SYNCS // 2] * 1000


def measure_loads() -> list[Line]:
    """Throughput and latency of each kind in turn."""
    found: dict[tuple[str, int, int], Load] = {}
    kinds: dict[str, Callable[[Path], Group]] = {
        "orca": Orca,
        "grpc": lambda folder: Etcd(folder, "grpc"),
        "etcd": Etcd,
        "pysyncobj": PySyncObj,
    }
    for kind, missing in _missing().items():
        say(f"{missing}, so nothing is compared with {kind}")
        del kinds[kind]
    for kind, make in kinds.items():
        with _folder() as folder:
            group = make(folder)
            try:
                for size in SIZES:
                    for in_flight in IN_FLIGHT:
                        load = found[kind, size, in_flight] = group.load(in_flight, size)
                        say(
                            f"  {kind}: {size} B, {in_flight} in flight: {load.rate:,.0f}/s, "
                            f"p50 {load.p50_s * 1000:.2f} ms, p99 {load.p99_s * 1000:.2f} ms, {load.failed} failed"
                        )
            finally:
                group.stop()
    return [line for size in SIZES for in_flight in IN_FLIGHT for line in _lines(found, size, in_flight)]


def _lines(found: dict[tuple[str, int, int], Load], size: int, in_flight: int) -> Iterator[Line]:
    """Time a put is the measure, so that less is better everywhere."""
    ours = found["orca", size, in_flight]
    for kind, (name, goals) in _PEERS.items():
        theirs = found.get((kind, size, in_flight))
        if theirs is None:
            continue
        if in_flight == 1:
            what, unit, result, limit = "p50", "ms", ours.p50_s * 1000, theirs.p50_s * 1000
        else:
            what, unit, result, limit = f"a put ({ours.rate:,.0f}/s)", "us", 1e6 / ours.rate, 1e6 / theirs.rate
        yield Line(
            bench="consensus",
            what=f"{what}, {size} B, {in_flight} in flight",
            unit=unit,
            result=result,
            limit=limit,
            limit_name=name,
            goal=goals.get(in_flight),
        )


def _rss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def measure_memory_and_catching_up(kept: int, what: str) -> list[Line]:
    """Leave one follower behind by so many commands, and start it again."""
    with _folder() as folder:
        group = Orca(folder, kept=kept)
        try:
            leader = group.workers[group.leader]
            lines = []
            if kept == KEPT:
                usage = Usage(leader.pid)
                lines.append(
                    Line(bench="consensus", what="a quiet leader", unit="% CPU", result=usage.cpu_percent,
                         goal=IDLE_PERCENT, is_goal_of_ratio=False)
                )  # fmt: skip
            behind = next(name for name in group.workers if name != group.leader)
            group.workers[behind].kill()
            applied = leader.ask("fill", COMMANDS, 100)["applied"]
            if kept == KEPT:
                lines.append(
                    Line(bench="consensus", what=f"the leader after {COMMANDS:,} commands", unit="MB",
                         result=_rss_mb(leader.pid), goal=RSS_MB, is_goal_of_ratio=False)
                )  # fmt: skip
            began = time.monotonic()
            worker = group.start(behind)
            worker.ask("wait", applied)
            took_s = time.monotonic() - began
            name = f"a follower {COMMANDS:,} commands behind, start included: {what}"
            lines.append(
                Line(bench="consensus", what=name, unit="s", result=took_s, goal=CATCH_UP_S, is_goal_of_ratio=False)
            )
            return lines
        finally:
            group.stop()


def main() -> list[Line]:
    """Everything, with the disk's own speed first."""
    with _folder() as folder:
        sync = Line(bench="consensus", what="a write and its sync on this disk", unit="ms", result=_sync_ms(folder))
    return [
        sync,
        *measure_loads(),
        *measure_memory_and_catching_up(KEPT, "a snapshot and what follows"),
        *measure_memory_and_catching_up(2 * COMMANDS, "the log alone"),
    ]


if __name__ == "__main__":
    show(main())
