"""A command that is not there: it gives its input back."""

from collections import deque

import trio

from node.runtime.base import ExecRequest, LogStream
from orca.errors import RuntimeFailedError


class EchoSession:
    """Says its command on stderr, then gives its input back as output; ends with the input.

    A command `exit N` ends at once, `fail` raises, `wait` never ends.
    """

    def __init__(self, request: ExecRequest) -> None:
        self._request = request
        self._output: deque[tuple[LogStream, bytes]] = deque([(LogStream.STDERR, " ".join(request.command).encode())])
        self._is_closed = request.command[0] == "exit"
        self._wake = trio.Event()
        self.size = (request.rows, request.columns)

    def _put(self, chunk: bytes) -> None:
        self._output.append((LogStream.STDOUT, chunk))
        self._wake.set()

    async def send(self, chunk: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._put(chunk)

    async def close_stdin(self) -> None:
        await trio.lowlevel.checkpoint()
        self._is_closed = True
        self._wake.set()

    async def receive(self) -> tuple[LogStream, bytes] | None:
        if self._request.command[0] == "fail":
            raise RuntimeFailedError("no such program")
        while not self._output:
            if self._is_closed:
                return None
            self._wake = trio.Event()
            await self._wake.wait()
        await trio.lowlevel.checkpoint()
        return self._output.popleft()

    async def resize(self, rows: int, columns: int) -> None:
        await trio.lowlevel.checkpoint()
        self._put(f"{rows}x{columns}".encode())

    async def exit_code(self) -> int:
        await trio.lowlevel.checkpoint()
        return int(self._request.command[1]) if self._request.command[0] == "exit" else 0
