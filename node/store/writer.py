"""A writer thread: a bounded queue of writes, committed in groups."""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar

import trio

from orca.errors import NotAvailableError, StoreStalledError

V = TypeVar("V")
T = TypeVar("T")

Done: TypeAlias = Callable[[Any, Exception | None], None]
"""Takes what the change returned, or why it was not made; called once, on the writer thread."""


class Job(Generic[V]):
    """One write that waits for its turn: what to do with that which the thread writes to."""

    def __init__(self, change: Callable[[V], Any], done: Done) -> None:
        self.change = change
        self.done = done


class _End:
    """What became of one job."""

    def __init__(self) -> None:
        self.value: Any = None
        self.failure: Exception | None = None

    def give(self) -> Any:
        if self.failure is not None:
            raise self.failure
        return self.value


class WriterThread(Generic[V]):
    """Takes jobs in order and hands them to `commit` in groups of at most `group_max`.

    `commit` answers every job of its group, before it returns. The queue holds at most
    `queue_max` jobs. The thread sleeps in a SimpleQueue: a Condition would cost it a lock of its own
    and several turns of the interpreter lock a group, each of them taken from the loop.
    """

    def __init__(
        self, commit: Callable[[list[Job[V]]], None], *, queue_max: int, group_max: int, name: str = "store-writer"
    ) -> None:
        self._commit = commit
        self._queue_max = queue_max
        self._group_max = group_max
        self._jobs: queue.SimpleQueue[Job[V] | None] = queue.SimpleQueue()
        self._room = threading.Condition()
        self._waiting = 0
        self._is_closed = False
        self._is_last = False
        # A daemon thread: a disk that hangs for ever must not keep a stopping process alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def make(self, change: Callable[[V], T]) -> T:
        """What `change` returned, once it is committed; raises what it raises, and `NotAvailableError` as `put` does.

        May be cancelled; the change is made or not made then.
        """
        token = trio.lowlevel.current_trio_token()
        done, end = trio.Event(), _End()

        def finish(value: Any, failure: Exception | None) -> None:
            end.value, end.failure = value, failure
            # Without a loop there is nobody left who asked.
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        self.put(Job(change, finish))
        await done.wait()
        value: T = end.give()
        return value

    def make_blocking(self, change: Callable[[V], T], timeout_s: float, place: str) -> T:
        """The same from a worker thread, or before the loop runs.

        Raises `StoreStalledError` naming `place` when the disk has not answered after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        done, end = threading.Event(), _End()

        def finish(value: Any, failure: Exception | None) -> None:
            end.value, end.failure = value, failure
            done.set()

        self.put(Job(change, finish), wait_s=timeout_s)
        if not done.wait(max(0.0, deadline - time.monotonic())):
            raise StoreStalledError(
                f"the disk below {place} did not confirm a write in {timeout_s:g} s; it may still happen"
            )
        value: T = end.give()
        return value

    def put(self, job: Job[V], wait_s: float = 0.0) -> None:
        """Queue `job`, waiting up to `wait_s` for room.

        Raises `NotAvailableError` when there is none or the writer was closed; the job
        will not run then.
        """
        with self._room:
            if self._waiting >= self._queue_max:
                self._room.wait_for(lambda: self._is_closed or self._waiting < self._queue_max, wait_s)
            if self._is_closed:
                raise NotAvailableError("the store of this node is closed")
            if self._waiting >= self._queue_max:
                raise NotAvailableError(f"{self._queue_max} writes wait for the disk of this node already")
            self._waiting += 1
            self._jobs.put(job)

    def close(self, timeout_s: float) -> bool:
        """Take no more jobs and do those that wait; False when that took longer than `timeout_s`."""
        with self._room:
            if not self._is_closed:
                self._is_closed = True
                self._jobs.put(None)
                self._room.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while group := self._take():
            self._commit(group)

    def _take(self) -> list[Job[V]]:
        """The next group; empty when the writer was closed and nothing waits."""
        group: list[Job[V]] = []
        while not self._is_last and len(group) < self._group_max and not (group and self._jobs.empty()):
            job = self._jobs.get()
            if job is None:
                self._is_last = True
            else:
                group.append(job)
        with self._room:
            self._waiting -= len(group)
            self._room.notify_all()
        return group
