"""Running guests in threads: what may stop one, the epoch ticker, and the pool.

Everything here is called from guest threads and from the event loop alike. Times are
`time.monotonic()`, because the event loop's own clock can only be read on the loop.
"""

import contextlib
import enum
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

TICK_S: Final = 0.02
"""How often a running guest is asked whether it may go on: the latest end of a loop."""

_IDLE_S: Final = 1.0
"""The ticker goes on this long after the last call, so that busy times don't restart it."""

_THREAD_IDLE_S: Final = 30.0


class StopReason(enum.Enum):
    """Why a call was cut."""

    DEADLINE = "deadline"
    STOPPED = "stopped"
    CLIENT_GONE = "client gone"


class Call:
    """One run of a guest: may be stopped from any thread, at any time, once.

    `deadline` is on the clock of `time.monotonic()`; None is no deadline.
    """

    __slots__ = ("before_sleep", "deadline", "reason", "started_ns", "was_sleep_cut")

    def __init__(self, timeout_s: float | None = None) -> None:
        self.deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self.reason: StopReason | None = None
        self.started_ns = time.monotonic_ns()
        self.was_sleep_cut = False
        self.before_sleep: Callable[[], None] | None = None
        """Called in the guest's thread: what it has written so far should go out now."""

    def interrupt(self, reason: StopReason) -> None:
        """Cut it at the next tick; the first reason given stays."""
        if self.reason is None:
            self.reason = reason

    def must_stop(self) -> bool:
        """Whether it was interrupted or its deadline has passed."""
        if self.reason is None and self.deadline is not None and time.monotonic() >= self.deadline:
            self.reason = StopReason.DEADLINE
        return self.reason is not None

    def sleep(self, seconds: float) -> None:
        """Sleep in the guest's thread, at most until the call must stop."""
        end = time.monotonic() + seconds
        if self.before_sleep is not None and seconds > 0:
            self.before_sleep()
        while not self.must_stop():
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, TICK_S))
        self.was_sleep_cut = True


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a guest ended.

    `exit_code` 134 is a trap, 143 a stop, 137 a thread that had to be left behind.
    `detail` is empty after a proper exit.
    """

    exit_code: int
    detail: str = ""
    is_oom_killed: bool = False
    is_trap: bool = False
    reason: StopReason | None = None
    cpu_ns: int = 0
    memory_bytes: int = 0


Output = Callable[[bytes], None]
"""Takes what a guest writes, in the guest's thread."""


class Streams:
    """The files that a guest without directories has open, by number; None cannot be written."""

    __slots__ = ("_outputs",)

    def __init__(self, outputs: dict[int, Output | None]) -> None:
        self._outputs = outputs

    def find(self, number: int) -> Output | None:
        """Where writes to `number` go; None when it is not open for writing."""
        return self._outputs.get(number)

    def close(self, number: int) -> bool:
        """Close `number`; False when it is not open."""
        if number not in self._outputs:
            return False
        del self._outputs[number]
        return True


class Current(threading.local):
    """What runs in this thread, for host functions."""

    call: Call | None = None
    streams: Streams | None = None


current: Final = Current()


class Ticker:
    """Advances the engine's epoch every `TICK_S` while calls run; one thread at most."""

    def __init__(self, advance: Callable[[], None]) -> None:
        self._advance = advance
        self._lock = threading.Lock()
        self._running = 0
        self._last_end = 0.0
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The body is a call."""
        with self._lock:
            self._running += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._tick, name="orca-wasm-ticker", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._last_end = time.monotonic()

    def is_ticking(self) -> bool:
        """Whether the thread is alive."""
        return self._thread is not None

    def _tick(self) -> None:
        while True:
            time.sleep(TICK_S)
            with self._lock:
                if not self._running and time.monotonic() - self._last_end > _IDLE_S:
                    self._thread = None
                    return
            self._advance()


class Pool:
    """Threads that run guests; work is handed over by one queue and answers for itself.

    Grows to `threads_max` as needed; idle threads end after 30 s. More work than
    threads waits in the queue, which its callers bound.
    """

    def __init__(self, name: str, threads_max: int) -> None:
        self._name = name
        self._threads_max = threads_max
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._lost = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Have a thread call `work`, which must not raise."""
        with self._lock:
            must_grow = self._idle <= self._queue.qsize() and self._threads < self._threads_max
            if must_grow:
                self._threads += 1
        self._queue.put(work)
        if must_grow:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def lose_thread(self) -> None:
        """One thread hangs in a host call that cannot be cut: let another take its place."""
        with self._lock:
            self._threads -= 1
            self._lost += 1

    def _serve(self) -> None:
        while True:
            with self._lock:
                if self._lost:  # the one that hung, or another in its stead: one thread too many
                    self._lost -= 1
                    return
                self._idle += 1
            try:
                work = self._queue.get(timeout=_THREAD_IDLE_S)
            except queue.Empty:
                work = None
            with self._lock:
                self._idle -= 1
                if work is None and self._queue.empty():
                    self._threads -= 1
                    return
            if work is not None:
                work()
            del work  # or what it holds would live until the next one
