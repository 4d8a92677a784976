"""Pipes through which the kernel moves a body from one socket to another without showing it to us."""

import contextlib
import fcntl
import os
from typing import Final

PIPE_BYTES: Final = 256 * 1024
KEPT_MAX: Final = 16
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Pipe:
    """A pipe that holds `held` bytes of somebody's body."""

    __slots__ = ("_sink", "_source", "held")

    def __init__(self) -> None:
        self._source, self._sink = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        with contextlib.suppress(OSError):
            # Beyond the user's share the kernel keeps its default, which is slower and no less right.
            fcntl.fcntl(self._sink, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def fill_from(self, fd: int, bytes_max: int) -> int:
        """Take up to `bytes_max` from a socket; 0 at its end. Raises BlockingIOError when nothing is there, OSError."""
        taken = os.splice(fd, self._sink, min(bytes_max, PIPE_BYTES), flags=_FLAGS)
        self.held += taken
        return taken

    def empty_into(self, fd: int) -> None:
        """Give a socket as much as it takes. Raises BlockingIOError when it takes nothing, OSError."""
        while self.held:
            self.held -= os.splice(self._source, fd, self.held, flags=_FLAGS)

    def close(self) -> None:
        """Close both ends; what is held is lost."""
        os.close(self._source)
        os.close(self._sink)


class PipePool:
    """Empty pipes that are kept for the next body."""

    def __init__(self) -> None:
        self._kept: list[Pipe] = []

    def take(self) -> Pipe | None:
        """An empty pipe; None when the process may open no more files, so that the body has to be copied."""
        if self._kept:
            return self._kept.pop()
        try:
            return Pipe()
        except OSError:
            return None

    def put(self, pipe: Pipe) -> None:
        """Keep `pipe`, or close it when it is not empty or enough are kept."""
        if pipe.held or len(self._kept) >= KEPT_MAX:
            pipe.close()
        else:
            self._kept.append(pipe)

    def close(self) -> None:
        """Close all that are kept."""
        while self._kept:
            self._kept.pop().close()
