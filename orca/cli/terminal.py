"""The terminal of this process at one end of `orca exec`: raw input, size, output."""

import contextlib
import os
import signal
import stat
import sys
import termios
import tty
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from typing import Final

import trio

from orca.client import ExecOutput

_READ_BYTES: Final = 1 << 16


class LocalTerminal:
    """`orca.commands.exec.Terminal` on this process's descriptors."""

    def __init__(self, signals: AsyncIterator[int]) -> None:
        self.rows, self.columns = terminal_size()
        self._signals = signals
        self._stdin = sys.stdin.fileno()
        self._is_file = stat.S_ISREG(os.fstat(self._stdin).st_mode)

    async def read(self) -> bytes:
        """What is typed or piped in next; empty at its end."""
        if self._is_file:
            return await trio.to_thread.run_sync(os.read, self._stdin, _READ_BYTES)
        try:
            # Not O_NONBLOCK: the shell that started us shares the descriptor and would inherit it.
            await trio.lowlevel.wait_readable(self._stdin)
        except PermissionError:  # /dev/null and its like cannot be waited for, and never block
            await trio.lowlevel.checkpoint()
        try:
            return os.read(self._stdin, _READ_BYTES)
        except OSError:
            return b""  # the terminal hung up

    async def resized(self) -> tuple[int, int]:
        """Rows and columns after the next SIGWINCH."""
        await anext(self._signals)
        return terminal_size()

    def write(self, output: ExecOutput, chunk: bytes) -> None:
        """Pass output on at once."""
        stream = sys.stdout.buffer if output is ExecOutput.STDOUT else sys.stderr.buffer
        stream.write(chunk)
        stream.flush()


def terminal_size() -> tuple[int, int]:
    """Rows and columns of the terminal itself: COLUMNS and LINES would hide a change of size."""
    try:
        size = os.get_terminal_size(sys.stdin.fileno())
    except OSError:
        return 24, 80
    return size.lines or 24, size.columns or 80


@contextlib.asynccontextmanager
async def open_terminal() -> AsyncGenerator[LocalTerminal, None]:
    """The terminal, with changes of size caught."""
    with trio.open_signal_receiver(signal.SIGWINCH) as signals:
        yield LocalTerminal(signals)


@contextlib.contextmanager
def raw_mode() -> Generator[None, None, None]:
    """Keys go to the other side unchanged, Ctrl-C too; what was set before comes back in any case."""
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    try:
        tty.setraw(stdin)
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
