"""What `exec` gives: a command's input, output and end."""

import enum
from typing import Protocol


class ExecOutput(enum.Enum):
    """Which output of the command; the value is the first byte of its frames."""

    STDOUT = 1
    STDERR = 2


class ExecChannel(Protocol):
    """A command that runs inside a copy. One task may send while another receives."""

    async def send(self, chunk: bytes) -> None:
        """Give `chunk` to its stdin."""
        ...

    async def close_stdin(self) -> None:
        """End of its stdin."""
        ...

    async def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal the size."""
        ...

    async def receive(self) -> tuple[ExecOutput, bytes] | None:
        """The next piece of output; None when there is no more.

        Raises the node's error, and `NodeUnreachableError` when the connection is lost.
        """
        ...

    async def exit_code(self) -> int:
        """Its exit code; output that was not received is dropped. Raises like `receive`."""
        ...
