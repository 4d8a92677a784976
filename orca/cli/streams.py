"""Verbs that stream: logs, events, exec."""

from typing import TYPE_CHECKING, Any, Final

import asyncclick as click

from orca.cli.changes import Duration
from orca.cli.live_names import complete_service, complete_target
from orca.cli.program import Session, argument, option, verb

if TYPE_CHECKING:
    from orca.model.event import NodeEvent
    from orca.model.units import WallMs
    from orca.model.view import LogRecord, NodeSilence

PREFIX_STYLES: Final = ("cyan", "yellow", "green", "magenta", "blue")


def since_ms_of(seconds: float | None) -> "WallMs | None":
    """When it was `seconds` ago; None for None."""
    import time

    from orca.model.units import WallMs

    return None if seconds is None else WallMs(int((time.time() - seconds) * 1000))


@verb(
    "logs",
    argument("name", metavar="SERVICE|COPY", shell_complete=complete_target),
    option("--follow", "-f", "is_followed", is_flag=True, help="Go on with new lines, until Ctrl-C."),
    option("--tail", "-n", type=click.IntRange(min=0), metavar="N", help="Only the last N lines of each copy."),
    option("--since", "since_s", type=Duration(), metavar="AGO", help="Only lines younger than this: 5m, 2h."),
    option("--timestamps", "-t", "with_time", is_flag=True, help="Time before each line."),
    more="COPY is web.2 or the start of a copy's id. With --json there is one document a line.",
)
async def logs_command(
    session: Session, name: str, is_followed: bool, tail: int | None, since_s: float | None, with_time: bool
) -> None:
    """Output."""
    from orca.cli.text import paint
    from orca.commands.logs import read_logs
    from orca.model.ids import display_name

    console = session.console
    widest = 0

    def show(record: "LogRecord") -> None:
        nonlocal widest
        if console.as_json:
            console.data(record, is_streamed=True)
            return
        label = f"{display_name(record.service)}.{record.slot + 1}"
        widest = max(widest, len(label))
        style = PREFIX_STYLES[record.slot % len(PREFIX_STYLES)]
        time_text = f"{_precise(record.at_ms)} " if with_time else ""
        prefix = paint(f"{label:<{widest}} |", style, is_coloured=console.is_coloured)
        console.out.write(f"{prefix} {time_text}{record.text}\n")
        if is_followed:
            console.out.flush()

    async with session.client() as client:
        await read_logs(client, name, show, follow=is_followed, tail=tail, since_ms=since_ms_of(since_s))


def _precise(at_ms: int) -> str:
    """Date and time in UTC to the millisecond, as programs write it."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_ms // 1000)) + f".{at_ms % 1000:03d}Z"


@verb(
    "events",
    argument("name", required=False, metavar="[SERVICE|COPY]", shell_complete=complete_target),
    option("--follow", "-f", "is_followed", is_flag=True, help="Go on with new events, until Ctrl-C."),
    option("--service", "service", metavar="NAME", shell_complete=complete_service, help="The same as the argument."),
    option("--cluster", "is_of_cluster", is_flag=True, help="What came by gossip: members and user events."),
    option("--here", "is_here", is_flag=True, help="Only of the node that is asked."),
    option("--limit", "-n", type=click.IntRange(0, 10_000), default=50, help="The newest N events.", show_default=True),
    option("--since", "since_s", type=Duration(), metavar="AGO", help="Only events younger than this: 5m, 2h."),
    more="Of all nodes, by time; what several have is shown once, and a node that does not answer is named. "
    "With --follow and --json there is one document a line.",
)
async def events_command(  # noqa: PLR0913, PLR0917 - its options
    session: Session,
    name: str | None,
    service: str | None,
    is_of_cluster: bool,
    is_here: bool,
    is_followed: bool,
    limit: int,
    since_s: float | None,
) -> None:
    """History of what happened."""
    from orca.cli import render
    from orca.commands.events import follow_events, list_events
    from orca.errors import InvalidRequestError

    if name and service and name != service:
        raise InvalidRequestError(f"name one service: {name!r} or {service!r}")
    if is_of_cluster and (name or service):
        raise InvalidRequestError("--cluster is about no service; leave one of both out")
    console = session.console
    width = console.width if console.is_terminal else 0

    def show(event: "NodeEvent") -> None:
        if console.as_json:
            console.data(event, is_streamed=True)
            return
        console.line(*render.event_line(event, width))
        console.out.flush()

    def tell(silence: "NodeSilence") -> None:
        console.problem(f"events are missing: {render.silence(silence)}", "yellow")

    async with session.client() as client:
        about: dict[str, Any] = {"name": name or service, "is_of_cluster": is_of_cluster, "is_here": is_here}
        since_ms = since_ms_of(since_s)
        if is_followed:
            await follow_events(client, show, limit=limit, since_ms=since_ms, told=tell, **about)
            return
        reply = await list_events(client, limit=max(limit, 1), since_ms=since_ms, **about)
    if console.as_json:
        console.data(reply)
        return
    for one in reply.silent:
        tell(one)
    for event in reply.events:
        console.line(*render.event_line(event, width))


@verb(
    "exec",
    argument("copy", metavar="SERVICE|COPY", shell_complete=complete_target),
    argument("command", nargs=-1, required=True, metavar="[--] COMMAND...", type=click.UNPROCESSED),
    option("--interactive", "-i", "is_interactive", is_flag=True, help="Pass standard input on."),
    option("--tty/--no-tty", "-t/-T", "wants_tty", default=None, help="A terminal; by itself where there is one here."),
    option("--user", "-u", metavar="USER", help="User inside the copy."),
    option("--env", "-e", "env", multiple=True, metavar="KEY=VALUE", help="Environment variable; repeatable."),
    more="The exit code is that of COMMAND. A service means its first ready copy. With --json there is one document a "
    "line: pieces of the output (stream, text), and at the end the exit_code.",
    allow_interspersed_args=False,
)
async def exec_command(
    session: Session,
    copy: str,
    command: tuple[str, ...],
    is_interactive: bool,
    wants_tty: bool | None,
    user: str | None,
    env: tuple[str, ...],
) -> int:
    """Run inside."""
    import contextlib
    import sys
    from functools import partial

    from orca.cli.terminal import RecordingTerminal, open_terminal, raw_mode
    from orca.commands.exec import ExecOptions, find_copy, run_inside
    from orca.errors import InvalidRequestError

    if command[0] == "--":  # ends our own options, and stands behind the copy's name
        command = command[1:]
    if not command:
        raise click.UsageError("COMMAND is missing", click.get_current_context(silent=True))
    if command[0] == "--":  # the parser leaves it in place behind the first argument
        command = command[1:]
    if not command:
        raise InvalidRequestError("`--` has no command after it; write: orca exec SERVICE|COPY -- COMMAND")
    console = session.console
    here = sys.stdin.isatty() and sys.stdout.isatty() and not console.as_json
    tty = here if wants_tty is None else wants_tty
    options = ExecOptions(tty=tty, stdin=is_interactive or (tty and here), user=user, env=parse_env_options(env))
    with contextlib.ExitStack() as stack:
        show = partial(console.data, is_streamed=True) if console.as_json else None
        async with session.client() as client, open_terminal(show) as terminal:
            allocation = await find_copy(client, copy)

            def enter() -> None:
                if tty and sys.stdin.isatty():
                    stack.enter_context(raw_mode())

            try:
                code = await run_inside(client, allocation, command, options, terminal, enter)
            finally:
                stack.close()
        if isinstance(terminal, RecordingTerminal):
            terminal.end(code)
        return code


def parse_env_options(texts: tuple[str, ...]) -> dict[str, str]:
    """`KEY=VALUE` texts as a dict; a plain KEY takes our own value. Raises InvalidRequestError."""
    import os

    from orca.errors import InvalidRequestError

    values: dict[str, Any] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not key or (not separator and key not in os.environ):
            raise InvalidRequestError(f"{text!r} is no variable; write KEY=VALUE")
        values[key] = value if separator else os.environ[key]
    return values
