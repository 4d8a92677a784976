"""The mesh beside bare TLS 1.3, between two processes: `python -m simulations.bench mesh`.

The yardsticks run in the same run, with the same certificates: an echo on `trio.SSLStream` for the
round trip, blocking `ssl` with 64 KiB writes for bulk. Each is measured in turns with ours, so that
a busy computer hits both. Raft messages are stamped, 200 a second, while one stream is kept full.

Two cores that others kept busy as well (load average 8), 64 KiB on the wire at a time:

    what                             mesh       yardstick                   ratio
    1 KB call, median                192 us     139 us (trio.SSLStream)     1.39    <= 1.5
    bulk                             332 MB/s   617 MB/s (blocking ssl)     0.54    >= 0.7, missed
    Raft message alone, p50 | p99    0.32 | 5.0 ms
    Raft message beside bulk         0.45 | 5.4 ms                                  p99 <= 20 ms
    50 idle peers                    50 MB, 0.21 % of a core   (none: 47 MB, 0.03 %)

By processor time, 256 MB cost the sender 0.43 s and the reader 0.40 s (bare: 0.16 s and 0.27 s) with 64 KiB at a
time, 0.40 s and 0.40 s with the 128 KiB that are used since: of it the session takes about 0.07 s on each side.
"""

import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from node.mesh.driver import MeshAddress
from node.mesh.purpose import Purpose
from orca.model.ids import NodeId
from simulations.bench.authority import CLUSTER, Authority
from simulations.bench.idle import Usage
from simulations.bench.mesh_end import FAR, HOST, NEAR, PIECE_BYTES, READY, mesh_of
from simulations.bench.report import Line, say, show

ROUNDS: Final = 5
CALLS: Final = 1500
CALL_BYTES: Final = 1024
BULK_BYTES: Final = 512 * 2**20
RAFT_MESSAGES: Final = 1000
RAFT_INTERVAL_S: Final = 0.005
PEERS: Final = 50


@contextmanager
def _end(*words: str) -> Iterator[int]:
    """A process of `mesh_end`; what it says first."""
    command = [sys.executable, "-m", "simulations.bench.mesh_end", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def _calls(stream: trio.abc.Stream) -> float:
    """Seconds of the median call."""
    taken, body = [], bytes(CALL_BYTES)
    for _ in range(CALLS):
        started = time.perf_counter()
        await stream.send_all(body)
        left = CALL_BYTES
        while left:
            left -= len(await stream.receive_some())
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


async def _bare_calls(port: int, context: ssl.SSLContext) -> float:
    tcp = await trio.open_tcp_stream(HOST, port)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    async with trio.SSLStream(tcp, context, https_compatible=True) as stream:
        return await _calls(stream)


def _bare_bulk(port: int, context: ssl.SSLContext) -> float:
    """Bytes a second with nothing but `ssl`."""
    piece = bytes(PIECE_BYTES)
    with context.wrap_socket(socket.create_connection((HOST, port))) as stream:
        started = time.perf_counter()
        stream.sendall(BULK_BYTES.to_bytes(8, "big"))
        for _ in range(BULK_BYTES // PIECE_BYTES):
            stream.sendall(piece)
        assert stream.recv(1) == READY
        return BULK_BYTES / (time.perf_counter() - started)


class _Near:
    """The end in this process."""

    def __init__(self, folder: Path, port: int) -> None:
        self.mesh = mesh_of(NEAR, folder, {FAR: MeshAddress(HOST, port)})

    async def calls(self) -> float:
        """Seconds of the median call."""
        async with self.mesh.connect_stream(FAR, Purpose.TUNNEL) as stream:
            return await _calls(stream)

    async def bulk(self) -> float:
        """Bytes a second on one stream."""
        piece = bytes(PIECE_BYTES)
        async with self.mesh.connect_stream(FAR, Purpose.CONTENT) as stream:
            started = time.perf_counter()
            for _ in range(BULK_BYTES // PIECE_BYTES):
                await stream.send_all(piece)
            await stream.send_eof()
            assert await stream.receive_some() == READY
            return BULK_BYTES / (time.perf_counter() - started)

    async def raft(self) -> list[float]:
        """How long each message was under way, while bulk fills the connection or not."""
        for _ in range(RAFT_MESSAGES):
            self.mesh.send(FAR, time.monotonic().hex().encode())
            await trio.sleep(RAFT_INTERVAL_S)
        await trio.sleep(0.2)
        latencies: list[float] = []
        async with self.mesh.connect(FAR, Purpose.STANDING) as frames:
            while batch := await frames.receive_some():
                latencies += [float.fromhex(one.decode()) for one in batch]
        return sorted(latencies)

    async def raft_beside_bulk(self) -> list[float]:
        """The same while one stream takes all it can get."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_full)
            found = await self.raft()
            nursery.cancel_scope.cancel()
        return found

    async def _keep_full(self) -> None:
        piece = bytes(PIECE_BYTES)
        async with self.mesh.connect_stream(FAR, Purpose.CONTENT) as stream:
            while True:
                await stream.send_all(piece)


async def _measure(folder: Path) -> list[Line]:
    context = Authority(folder, CLUSTER).credentials(NodeId("n-c")).client_context()
    calls: list[float] = []
    bare_calls: list[float] = []
    bulk: list[float] = []
    bare_bulk: list[float] = []
    with _end("mesh", str(folder)) as port, _end("echo", str(folder)) as echo, _end("sink", str(folder)) as sink:
        near = _Near(folder, port)
        async with trio.open_nursery() as nursery:
            await nursery.start(near.mesh.run, {}, HOST, 0)
            for turn in range(ROUNDS):
                say(f"mesh: round {turn + 1} of {ROUNDS}")
                calls.append(await near.calls())
                bare_calls.append(await _bare_calls(echo, context))
                bulk.append(await near.bulk())
                bare_bulk.append(_bare_bulk(sink, context))
            quiet, busy = await near.raft(), await near.raft_beside_bulk()
            nursery.cancel_scope.cancel()
    return [
        _line("1 KB call, median", "us", min(calls) * 1e6, min(bare_calls) * 1e6, "(trio.SSLStream)", 1.5),
        _line("bulk, time for 1 GB", "s", 1e9 / max(bulk), 1e9 / max(bare_bulk), "(blocking ssl)", 1 / 0.7),
        *_latencies("Raft message alone", quiet),
        *_latencies("Raft message beside bulk", busy, 20),
    ]


def _line(what: str, unit: str, result: float, limit: float, name: str, goal: float) -> Line:
    return Line(bench="mesh", what=what, unit=unit, result=result, limit=limit, limit_name=name, goal=goal)


def _latencies(what: str, taken: list[float], goal: float | None = None) -> list[Line]:
    p99, p50 = (taken[int(len(taken) * part)] * 1000 for part in (0.99, 0.5))
    return [
        Line(bench="mesh", what=f"{what}, p50", unit="ms", result=p50),
        Line(bench="mesh", what=f"{what}, p99", unit="ms", result=p99, goal=goal, is_goal_of_ratio=False),
    ]


_IDLE: Final = """
import sys, trio
from functools import partial
from pathlib import Path
from node.mesh.purpose import Purpose
from simulations.bench.mesh_end import HOST, NEAR, mesh_of
async def well(_peer, frames):
    await frames.send([b"well"])
async def main():
    mesh = mesh_of(NEAR, Path(sys.argv[1]), {})
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(mesh.run, {Purpose.STANDING: well}, HOST, 0))
        print(address.port, flush=True)
trio.run(main)
"""


def _crowd(folder: Path) -> list[Line]:
    """A mesh with nobody, and with fifty that say nothing."""
    with subprocess.Popen([sys.executable, "-c", _IDLE, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline().decode().strip()
            time.sleep(1)
            alone = Usage(process.pid)
            with _end("crowd", str(folder), port, str(PEERS)):
                time.sleep(1)
                crowded = Usage(process.pid)
        finally:
            process.kill()
    name = f"mesh of {PEERS} idle peers"
    return [
        Line(
            bench="mesh", what=f"{name}: {what}", unit=unit, result=result, limit=limit, limit_name="(no peer)",
            goal=goal, is_goal_of_ratio=False,
        )
        for what, unit, result, limit, goal in (
            ("RSS", "MB", crowded.rss_mb, alone.rss_mb, 100.0),
            ("CPU", "%", crowded.cpu_percent, alone.cpu_percent, 1.0),
        )
    ]  # fmt: skip


def main() -> list[Line]:
    """Measure on loopback."""
    folder = Path(tempfile.mkdtemp(prefix="orca-bench-"))
    try:
        Authority(folder, CLUSTER)
        return [*trio.run(_measure, folder), *_crowd(folder)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    show(main())
