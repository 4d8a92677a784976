"""The writer thread: a bounded queue of writes, committed in groups."""

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from node.store.views import WriteView
from orca.errors import NotAvailableError

Change: TypeAlias = Callable[[WriteView], Any]
"""What to do in a transaction; it may run twice and must touch nothing but its view."""
Done: TypeAlias = Callable[[Any, Exception | None], None]
"""Takes what the change returned, or why it was not made; called once, on the writer thread."""


class Job:
    """One write that waits for its turn."""

    def __init__(self, change: Change, done: Done) -> None:
        self.change = change
        self.done = done


class WriterThread:
    """Takes jobs in order and hands them to `commit` in groups of at most `group_max`.

    `commit` answers every job of its group, before it returns. The queue holds at most
    `queue_max` jobs. The thread sleeps in a SimpleQueue: a Condition would cost it a lock of its own
    and several turns of the interpreter lock a group, each of them taken from the loop.
    """

    def __init__(self, commit: Callable[[list[Job]], None], *, queue_max: int, group_max: int) -> None:
        self._commit = commit
        self._queue_max = queue_max
        self._group_max = group_max
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._room = threading.Condition()
        self._waiting = 0
        self._is_closed = False
        self._is_last = False
        # A daemon thread: a disk that hangs for ever must not keep a stopping process alive.
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, job: Job, wait_s: float = 0.0) -> None:
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

    def _take(self) -> list[Job]:
        """The next group; empty when the writer was closed and nothing waits."""
        group: list[Job] = []
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
