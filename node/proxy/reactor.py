"""Many sockets in one trio task: whoever watches a socket is called when something about it has changed.

trio pays for every wait of a task with two system calls and a turn of its scheduler, which for a small request is more
than all the rest. Here sockets are registered once, edge-triggered, with an epoll of our own, and one task waits for
that. Batches are bounded and the task gives way after each few, so that everything else on the loop has its turn.
"""

import select
from collections.abc import Callable
from typing import Final, TypeAlias

import structlog
import trio

_log = structlog.get_logger("orca.proxy")

Handler: TypeAlias = Callable[[int], None]
"""Takes the epoll mask of what has changed."""

READABLE: Final = select.EPOLLIN | select.EPOLLRDHUP
ENDED: Final = select.EPOLLRDHUP
WRITABLE: Final = select.EPOLLOUT
BROKEN: Final = select.EPOLLERR | select.EPOLLHUP
_WATCHED: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLOUT | select.EPOLLET
_BATCH: Final = 64
_BATCHES: Final = 4
"""Batches before the rest of the loop has its turn: at about 30 us an event, a few milliseconds at most."""


class Reactor:
    """Calls handlers until `run` is cancelled; then every socket that is still watched is its owner's affair.

    `now` is trio's time when the present batch began. `on_bug` is called after a handler raised.
    """

    def __init__(self, on_bug: Callable[[], None]) -> None:
        self.now = 0.0
        self._on_bug = on_bug
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._again: list[Callable[[], None]] = []

    def watch(self, fd: int, handler: Handler) -> None:
        """Call `handler` when `fd` becomes readable or writable, and at once with what it is already."""
        self._handlers[fd] = handler
        self._epoll.register(fd, _WATCHED)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; before it is closed, or given to somebody else."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def closed(self, fd: int) -> None:
        """`fd` was closed, which has ended the watch by itself."""
        self._handlers.pop(fd, None)

    def call_again(self, action: Callable[[], None]) -> None:
        """Go on with `action` after others have had their turn."""
        self._again.append(action)

    async def run(self) -> None:
        """Dispatch until cancelled."""
        while True:
            if self._again:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
            for _ in range(_BATCHES):
                if not self._run_batch():
                    break

    def close(self) -> None:
        """Give the epoll back; nothing is watched any more."""
        self._epoll.close()

    def _run_batch(self) -> bool:
        self.now = trio.current_time()
        again, self._again = self._again, []
        for action in again:
            self._guarded(action)
        events = self._epoll.poll(0, _BATCH)
        handlers = self._handlers
        for fd, mask in events:
            handler = handlers.get(fd)
            if handler is None:
                continue
            try:
                handler(mask)
            except Exception:  # noqa: BLE001 - one connection's bug must not end every other connection
                self._bug()
        return bool(events)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:  # noqa: BLE001 - as above
            self._bug()

    def _bug(self) -> None:
        self._on_bug()
        _log.exception("proxy_connection_failed")
