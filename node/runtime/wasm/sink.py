"""The way of a guest's output to the task that answers the client.

A short answer is handed over once, when the guest has ended. A long one flows: the
guest's thread waits while `WAITING_BYTES_MAX` are not yet taken, so that 100 MB of
output cost 1 MiB of memory, and a client that stopped reading stops the guest at its
deadline.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import Final

import trio

from node.runtime.wasm.calls import TICK_S, Call, Outcome
from node.runtime.wasm.wagi import Response

STREAM_BYTES_MIN: Final = 256 * 1024
"""An answer up to this size is buffered whole, and so has a Content-Length."""

WAITING_BYTES_MAX: Final = 1024 * 1024


class Sink:
    """Bytes from one guest thread to one task."""

    def __init__(self, call: Call, token: trio.lowlevel.TrioToken) -> None:
        self._call = call
        self._token = token
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._pieces: list[bytes] = []
        self._waiting = 0
        self.outcome: Outcome | None = None
        self.head: Response | None = None
        """Set by a guest that gives its response head apart from its output."""
        self._is_flushed = False
        self._is_taken = False
        self.unsent: bytes | None = None
        """Set when the guest's thread has answered: what it could not send."""
        self._wake: Callable[[], None] | None = None
        call.before_sleep = self.flush

    def write(self, piece: bytes) -> None:
        """From the guest's thread; returns when there is room, or when the call must stop."""
        with self._lock:
            if self._call.reason is not None:
                return
            self._pieces.append(piece)
            self._waiting += len(piece)
            if self._waiting >= STREAM_BYTES_MIN:
                self._notify()
            while self._waiting >= WAITING_BYTES_MAX and not self._call.must_stop():
                self._room.wait(TICK_S)

    def end(self, outcome: Outcome) -> None:
        """From the guest's thread: it ended so, and nothing more comes."""
        with self._lock:
            self.outcome = outcome
            self._notify()

    def flush(self) -> None:
        """From the guest's thread: what was written shall go out now."""
        with self._lock:
            if self._pieces:
                self._is_flushed = True
                self._notify()

    def claim(self) -> bytes | None:
        """From the guest's thread, at its end: all output, unless the loop has begun to take it."""
        with self._lock:
            if self._is_taken:
                return None
            self._is_taken = True
            output = b"".join(self._pieces)
            self._pieces.clear()
            return output

    def unclaim(self, output: bytes) -> None:
        """From the guest's thread: the loop shall deal with it after all."""
        with self._lock:
            self._pieces.insert(0, output)

    def take(self) -> tuple[bytes, bool]:
        """On the loop: all bytes that wait, and whether they are the last."""
        with self._lock:
            taken = b"".join(self._pieces)
            self._pieces.clear()
            self._is_taken = True
            self._waiting = 0
            self._is_flushed = False
            self._room.notify()
            return taken, self.outcome is not None

    async def wait(self) -> None:
        """Until there is something worth taking: a large piece, a flush or the end."""
        task = trio.lowlevel.current_task()
        is_waiting = True

        def wake() -> None:
            nonlocal is_waiting
            if is_waiting:
                is_waiting = False
                trio.lowlevel.reschedule(task)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            nonlocal is_waiting
            is_waiting = False
            return trio.lowlevel.Abort.SUCCEEDED

        with self._lock:
            is_ready = self.outcome is not None or self._is_flushed or self._waiting >= STREAM_BYTES_MIN
            self._wake = None if is_ready else wake
        if is_ready:
            await trio.lowlevel.checkpoint()
            return
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _notify(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(wake)
