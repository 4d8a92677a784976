"""A program in a terminal, as a person sees it: what it draws, without the sequences that place and colour it."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator, Mapping

from tests.integration.node import ROOT

WAIT_S = 15.0
_SEQUENCES = re.compile(r"\x1b(?:\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[=>]|\([AB0])")
_WHERE = "\x1b[6n"
"""By this a program asks where the cursor is; a terminal answers."""


class Terminal:
    """The person's end."""

    def __init__(self, master: int, pid: int) -> None:
        self._master = master
        self.pid = pid
        self._shown = ""
        self._read_to = 0

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def wait_for(self, text: str, wait_s: float = WAIT_S) -> str:
        """What was drawn since the last wait, once `text` is part of it."""
        deadline = time.monotonic() + wait_s
        while text not in self._shown[self._read_to :]:
            assert time.monotonic() < deadline, f"{text!r} is not shown: {self._shown[self._read_to :][-3000:]!r}"
            self._read()
        found = self._shown[self._read_to :]
        self._read_to = len(self._shown)
        return found

    def ended(self, wait_s: float = WAIT_S) -> int:
        """The exit code, once it has ended."""
        deadline = time.monotonic() + wait_s
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, f"it does not end: {self._shown[-2000:]!r}"
            self._read()

    def _read(self) -> None:
        if not select.select([self._master], [], [], 0.05)[0]:
            return
        with contextlib.suppress(OSError):
            piece = os.read(self._master, 65536).decode(errors="replace")
            if _WHERE in piece:
                os.write(self._master, b"\x1b[1;1R")
            self._shown += _SEQUENCES.sub("", piece)


@contextlib.contextmanager
def terminal(*words: str, environ: Mapping[str, str], rows: int = 30, columns: int = 100) -> Iterator[Terminal]:
    """`orca WORDS` in a terminal of its own; killed at the end, if it still runs."""
    pid, master = pty.fork()
    if not pid:
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, "-m", "orca", *words], {**environ, "TERM": "xterm"})
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    made = Terminal(master, pid)
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(master)
