"""From a key press to the completions that it draws: `python -m simulations.bench.shell`.

A real `orca shell` in a terminal, on a node with a few services. The limit is a key that completes nothing, pressed in
the same shell: what drawing a line costs. Last measured on 2 cores with 300 services known: p50 9.5 ms, p95 26 ms.
"""

import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from simulations.bench.node_process import NodeProcess, idle_spec, running_node
from simulations.bench.report import Line, say, show
from simulations.bench.sandbox import ROOT

SERVICES: Final = 300
ROUNDS: Final = 15
GOAL_MS: Final = 50.0
TYPED: Final = (
    *(("", "h", "history"), ("", "s", "status"), ("", "e", "events"), ("", "r", "rollback")),
    *(("logs", " ", "service-1"), ("exec", " ", "service-1"), ("watch", " ", "join")),
    *(("zz", "z", ""), ("scale a=", "1", ""), ("logs x | grep a", "b", "")),
)
"""What is typed, the key that is timed, and what it has to draw; nothing: the key itself."""
_PROMPT: Final = b"decide"
_WAIT_S: Final = 20.0


class Typist:
    """Types into a shell, and times what is drawn."""

    def __init__(self, master: int) -> None:
        self._master = master

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def wait_for(self, text: bytes) -> float:
        """Seconds until `text` is drawn."""
        began = time.perf_counter()
        drawn = b""
        while text not in drawn:
            left_s = _WAIT_S - (time.perf_counter() - began)
            if left_s <= 0 or not select.select([self._master], [], [], left_s)[0]:
                raise RuntimeError(f"{text!r} was not drawn in {_WAIT_S:g} s: {drawn[-300:]!r}")
            piece = os.read(self._master, 65536)
            if b"\x1b[6n" in piece:
                os.write(self._master, b"\x1b[1;1R")
            drawn += piece
        return time.perf_counter() - began

    def rest(self) -> None:
        """Wait until nothing more is drawn for the present."""
        while select.select([self._master], [], [], 0.15)[0]:
            os.read(self._master, 65536)


@contextmanager
def _shell(node: NodeProcess, state: str) -> Iterator[Typist]:
    pid, master = pty.fork()
    if not pid:
        os.chdir(ROOT)
        environ = {**os.environ, "TERM": "xterm", "ORCA_NODE": f"http://127.0.0.1:{node.api}", "XDG_STATE_HOME": state}
        os.execve(sys.executable, [sys.executable, "-m", "orca", "shell"], environ)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    try:
        yield Typist(master)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with suppress(OSError):
            os.close(master)


def main() -> list[Line]:
    """The median and the 95th percentile over what is typed, and over again."""
    with (
        tempfile.TemporaryDirectory(prefix="orca-bench-") as made,
        running_node(Path(made), "--no-docker") as node,
    ):
        node.deploy(*(idle_spec(number) for number in range(SERVICES)))
        with _shell(node, made) as typist:
            typist.wait_for(_PROMPT)
            say(f"shell: {SERVICES} services are known")
            times, limits = _measure(typist)
    cuts = statistics.quantiles(times, n=20)
    limit = statistics.median(limits) * 1000
    return [
        Line(bench="shell", what="key to drawn completion, p50", unit="ms", result=statistics.median(times) * 1000,
             limit=limit, limit_name="a key without one"),
        Line(bench="shell", what="key to drawn completion, p95", unit="ms", result=cuts[-1] * 1000, goal=GOAL_MS,
             is_goal_of_ratio=False),
    ]  # fmt: skip


def _measure(typist: Typist) -> tuple[list[float], list[float]]:
    times: list[float] = []
    limits: list[float] = []
    for _ in range(ROUNDS):
        for before, key, drawn in TYPED:
            typist.rest()
            typist.type(before)
            typist.rest()
            typist.type(key)
            (times if drawn else limits).append(typist.wait_for((drawn or key).encode()))
            typist.type("\x03")
            typist.wait_for(_PROMPT)
    return times, limits


if __name__ == "__main__":
    show(main())
