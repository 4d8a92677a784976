"""The writer thread: a bounded queue of writes, committed in groups."""

import threading
from collections import deque
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
    `queue_max` jobs.
    """

    def __init__(self, commit: Callable[[list[Job]], None], *, queue_max: int, group_max: int) -> None:
        self._commit = commit
        self._queue_max = queue_max
        self._group_max = group_max
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        # A daemon thread: a disk that hangs for ever must not keep a stopping process alive.
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, job: Job, wait_s: float = 0.0) -> None:
        """Queue `job`, waiting up to `wait_s` for room.

        Raises `NotAvailableError` when there is none or the writer was closed; the job
        will not run then.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._jobs) < self._queue_max, wait_s)
            if self._is_closed:
                raise NotAvailableError("the store of this node is closed")
            if len(self._jobs) >= self._queue_max:
                raise NotAvailableError(f"{self._queue_max} writes wait for the disk of this node already")
            self._jobs.append(job)
            self._changed.notify_all()

    def close(self, timeout_s: float) -> bool:
        """Take no more jobs and do those that wait; False when that took longer than `timeout_s`."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while group := self._take():
            self._commit(group)

    def _take(self) -> list[Job]:
        """The next group; empty when the writer was closed and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._is_closed)
            group = [self._jobs.popleft() for _ in range(min(len(self._jobs), self._group_max))]
            self._changed.notify_all()
            return group
