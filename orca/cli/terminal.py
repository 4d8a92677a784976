"""The terminal of this process at one end of `orca exec`: raw input, size, output."""

import codecs
import contextlib
import os
import signal
import stat
import sys
import termios
import tty
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from typing import Final

import trio

from orca.client import ExecOutput
from orca.commands.exec import ExecRecord

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


class RecordingTerminal(LocalTerminal):
    """The same, but each piece of output becomes an `ExecRecord` for `show`.

    Output that is no UTF-8 has U+FFFD where it is not; a character that comes in two
    pieces stays whole.
    """

    def __init__(self, signals: AsyncIterator[int], show: Callable[[ExecRecord], None]) -> None:
        super().__init__(signals)
        self._show = show
        self._decoders = {one: codecs.getincrementaldecoder("utf-8")("replace") for one in ExecOutput}

    def write(self, output: ExecOutput, chunk: bytes) -> None:
        """Show what `chunk` completes."""
        self._say(output, self._decoders[output].decode(chunk))

    def end(self, exit_code: int) -> None:
        """Show what was left unfinished, and how the command ended."""
        for output, decoder in self._decoders.items():
            self._say(output, decoder.decode(b"", final=True))
        self._show(ExecRecord(exit_code=exit_code))

    def _say(self, output: ExecOutput, text: str) -> None:
        if text:
            self._show(ExecRecord(stream=output.name.lower(), text=text))


def terminal_size() -> tuple[int, int]:
    """Rows and columns of the terminal itself: COLUMNS and LINES would hide a change of size."""
    try:
        size = os.get_terminal_size(sys.stdin.fileno())
    except OSError:
        return 24, 80
    return size.lines or 24, size.columns or 80


@contextlib.asynccontextmanager
async def open_terminal(show: Callable[[ExecRecord], None] | None = None) -> AsyncGenerator[LocalTerminal, None]:
    """The terminal, with changes of size caught; with `show` its output goes there as records."""
    with trio.open_signal_receiver(signal.SIGWINCH) as signals:
        yield LocalTerminal(signals) if show is None else RecordingTerminal(signals, show)


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
