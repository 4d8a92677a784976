"""`orca exec`: a command inside a copy."""

from collections.abc import Callable
from typing import Protocol

import msgspec
import trio

from orca.client import ExecChannel, ExecOutput, NodeClient
from orca.commands.names import resolve_copy
from orca.model.ids import AllocationId


class Terminal(Protocol):
    """The caller's side of a session."""

    rows: int
    columns: int

    async def read(self) -> bytes:
        """What is typed or piped in next; empty at its end."""
        ...

    async def resized(self) -> tuple[int, int]:
        """Rows and columns after the next change of size."""
        ...

    def write(self, output: ExecOutput, chunk: bytes) -> None:
        """Show a piece of output."""
        ...


class ExecRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of what a command printed, or, as the last record, how it ended."""

    stream: str | None = None
    text: str | None = None
    exit_code: int | None = None


class ExecOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to run it: `tty` joins stdout and stderr, `stdin` passes ours on."""

    tty: bool = False
    stdin: bool = False
    user: str | None = None
    env: dict[str, str] = {}


async def find_copy(client: NodeClient, name: str) -> AllocationId:
    """The copy that `name` means. Raises NotFoundError and AmbiguousNameError."""
    return resolve_copy(name, (await client.services()).services).id


async def run_inside(
    client: NodeClient,
    copy: AllocationId,
    command: tuple[str, ...],
    options: ExecOptions,
    terminal: Terminal,
    entered: Callable[[], None] = lambda: None,
) -> int:
    """Run `command` inside `copy` with `terminal` at its ends; its exit code.

    `entered` is called once the session stands. Raises what the node refuses.
    """
    async with client.exec(
        copy,
        command,
        tty=options.tty,
        stdin=options.stdin,
        user=options.user,
        rows=terminal.rows,
        columns=terminal.columns,
        env=options.env,
    ) as channel:
        entered()
        async with trio.open_nursery() as nursery:
            if options.stdin:
                nursery.start_soon(_send_input, channel, terminal)
            if options.tty:
                nursery.start_soon(_send_sizes, channel, terminal)
            while (piece := await channel.receive()) is not None:
                terminal.write(*piece)
            nursery.cancel_scope.cancel()
        return await channel.exit_code()


async def _send_input(channel: ExecChannel, terminal: Terminal) -> None:
    while chunk := await terminal.read():
        await channel.send(chunk)
    await channel.close_stdin()


async def _send_sizes(channel: ExecChannel, terminal: Terminal) -> None:
    while True:
        rows, columns = await terminal.resized()
        await channel.resize(rows, columns)
