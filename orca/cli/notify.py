"""`orca alerts notify`: who is told of alerts."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.cli.program import Session
    from orca.model.notice import ChannelRequest, ChannelsReply

NOTIFY_USAGE: Final = "ls | add NAME [ADDRESS|@FILE|-] | rm NAME | test NAME"


async def notify(session: "Session", words: Sequence[str], *, severity: str | None, project: str | None) -> None:
    """One of `NOTIFY_USAGE`."""
    from orca.errors import InvalidRequestError
    from orca.model.ids import ChannelName

    action, *names = words or ("ls",)
    if action != "add" and (severity or project):
        raise InvalidRequestError(f"--severity and --project are not for orca alerts notify {action}")
    counts = {"ls": (0, 0), "add": (1, 2), "rm": (1, 1), "test": (1, 1)}
    if action not in counts or not counts[action][0] <= len(names) <= counts[action][1]:
        raise InvalidRequestError(f"orca alerts notify {' '.join(words)!r} is nothing; there are: {NOTIFY_USAGE}")
    console = session.console
    async with session.client() as client:
        match action:
            case "ls":
                show(await client.channels(), console)
            case "add":
                request = _request(names[0], names[1] if len(names) > 1 else "-", severity, project)
                reply = await client.about_alerts.put_channel(ChannelName(names[0]), request)
                show(reply, console)
                console.note(f"see whether it comes through: orca alerts notify test {names[0]}")
            case "rm":
                removed = await client.about_alerts.remove_channel(ChannelName(names[0]))
                if console.as_json:
                    console.data(removed)
                else:
                    console.line(f"{names[0]} is told of nothing any more", "green")
            case _:
                sent = await client.about_alerts.test_channel(ChannelName(names[0]))
                if console.as_json:
                    console.data(sent)
                else:
                    console.line(f"{names[0]}: a message was sent and taken", "green")


def _request(name: str, address: str, severity: str | None, project: str | None) -> "ChannelRequest":
    from orca.errors import InvalidRequestError
    from orca.model.event import Severity
    from orca.model.ids import ProjectName
    from orca.model.notice import ChannelRequest

    known = {one.value: one for one in Severity}
    if severity is not None and severity not in known:
        raise InvalidRequestError(f"there is no severity {severity[:40]!r}; there are: {', '.join(known)}")
    return ChannelRequest(
        address=read_address(name, address),
        severity=Severity.WARNING if severity is None else known[severity],
        project=None if project is None else ProjectName(project),
    )


def read_address(name: str, text: str) -> str:
    """The address that `text` is or leads to: `@FILE`, `-` for stdin. Blocks. Raises InvalidRequestError."""
    from getpass import getpass
    from pathlib import Path

    from orca.errors import InvalidRequestError

    if text.startswith("@"):
        try:
            found = Path(text[1:]).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequestError(f"{text[1:]} cannot be read: {error}") from error
    elif text != "-":
        found = text
    elif sys.stdin.isatty():
        found = getpass(f"address of {name} (not shown): ").strip()
    else:
        found = sys.stdin.readline().strip()
    if not found:
        raise InvalidRequestError("the address is empty", hint="give it, pipe it in, or name a file as @FILE")
    return found


def show(reply: "ChannelsReply", console: "Console") -> None:
    """CHANNEL FROM PROJECT FIRING WAITING BY."""
    from orca.cli.text import Cell, Column, clean

    if console.as_json:
        console.data(reply)
        return
    if not reply.channels:
        console.line("nobody is told of alerts; `orca alerts notify add NAME ADDRESS` changes that", "dim")
        return
    columns = (
        Column("CHANNEL"),
        Column("FROM"),
        Column("PROJECT", shrinks_to=8),
        Column("FIRING", is_number=True),
        Column("WAITING", is_number=True),
        Column("BY", shrinks_to=8),
    )
    rows: list[list[Cell | str]] = [
        [
            clean(one.name),
            one.severity.value,
            clean(one.project or "all"),
            str(one.firing),
            Cell(str(one.waiting), "yellow" if one.waiting else ""),
            clean(one.created_by),
        ]
        for one in reply.channels
    ]
    console.table(columns, rows)
