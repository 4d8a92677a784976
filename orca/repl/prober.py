"""A process that asks how the cluster is, so that a prompt never waits for a node."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from orca.errors import OrcaError
from orca.repl.known import Known

EVERY_S: Final = 2.0
_READ_BYTES: Final = 1 << 20


class Prober:
    """Runs `ask` again and again, in a child process, from `start` until `stop`; `latest` is what came of it."""

    def __init__(self, ask: Callable[[], Known]) -> None:
        self._ask = ask
        self._pid = 0
        self._pipe = -1
        self._held = b""
        self._good = Known()
        self._latest = Known()

    def start(self) -> None:
        """Begin to ask; of the node that `ask` means now."""
        self.stop()
        reading, writing = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(reading)
            _serve(self._ask, writing)
        os.close(writing)
        os.set_blocking(reading, False)
        self._pipe, self._held = reading, b""

    def stop(self) -> None:
        """Ask no more."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            os.close(self._pipe)
            self._pid = 0

    def put(self, known: Known) -> None:
        """Somebody else has asked."""
        self._latest = self._good = known

    def latest(self) -> Known:
        """The newest answer, or why there is none; returns at once."""
        with suppress(BlockingIOError):
            while self._pid and (piece := os.read(self._pipe, _READ_BYTES)):
                self._held += piece
        lines, newline, self._held = self._held.rpartition(b"\n")
        if newline:
            self._latest = msgspec.json.decode(lines.rpartition(b"\n")[2], type=Known)
            self._good = self._good if self._latest.error else self._latest
        return self._latest

    @property
    def last_good(self) -> Known:
        """What the cluster said when it last said something."""
        self.latest()
        return self._good


def _serve(ask: Callable[[], Known], writing: int) -> None:
    """The child's whole life; it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    try:
        while os.getppid() == parent:
            try:
                known = ask()
            except OrcaError as error:
                known = Known(at=time.monotonic(), error=error.message)
            os.write(writing, msgspec.json.encode(known) + b"\n")
            time.sleep(EVERY_S)
    finally:
        os._exit(0)
