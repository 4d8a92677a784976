"""Verbs that change what runs and look on: scale, stop, start, restart, rollback, rm."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import asyncclick as click

from orca.cli.live_names import complete_service
from orca.cli.program import Session, argument, option, verb

if TYPE_CHECKING:
    from orca.client import NodeClient
    from orca.commands.changes import ChangeOutcome
    from orca.commands.progress import Report


class Duration(click.ParamType[float]):
    """`30s`, `2m`, `1h`, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds; a usage error for what is no duration."""
        from orca.model.units import parse_duration_s

        try:
            return float(parse_duration_s(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def wait_options() -> tuple[click.Option, click.Option]:
    """The options of everything that waits."""
    return (
        option("--detach", "-d", "is_detached", is_flag=True, help="Do not wait."),
        option("--timeout", "timeout_s", type=Duration(), help="Stop waiting after this time; the change goes on."),
    )


def names_argument() -> click.Argument:
    """One service or more."""
    return argument("names", nargs=-1, required=True, metavar="SERVICE...", shell_complete=complete_service)


async def carry_out(
    session: Session,
    change: "Callable[[NodeClient, Report], Awaitable[ChangeOutcome]]",
) -> int:
    """Run a change with progress, show its end, give the exit code."""
    import time

    from orca.cli import progress
    from orca.commands.progress import Accepted, Progress
    from orca.model.ids import display_name

    console = session.console
    view = progress.ProgressView(console)

    def report(news: Progress) -> None:
        if isinstance(news, Accepted) and news.changes:
            name = display_name(news.changes[0].service)
            console.interrupt_note = (
                f"The change is accepted and goes on without us. Follow it: orca status, orca ps {name}"
            )
        view(news)

    started_at = time.monotonic()
    try:
        async with session.client() as client:
            outcome = await change(client, report)
    except Exception:
        view.finish()
        raise
    console.interrupt_note = ""
    view.finish()
    if console.as_json:
        console.data(outcome)
    else:
        progress.summary(outcome, console, time.monotonic() - started_at)
    error = outcome.wait.error() if outcome.wait is not None else None
    if error is None or outcome.wait is None:
        return 0
    console.out.flush()
    if console.as_json:
        raise error
    progress.failures(outcome.wait, console)
    return error.exit_code


@verb("scale", argument("wishes", nargs=-1, required=True, metavar="SERVICE=COPIES..."), *wait_options())
async def scale_command(session: Session, wishes: Sequence[str], is_detached: bool, timeout_s: float | None) -> int:
    """Set copies."""
    from orca.commands.scale import scale_services

    return await carry_out(
        session,
        lambda client, report: scale_services(client, wishes, report, is_detached=is_detached, timeout_s=timeout_s),
    )


@verb("stop", names_argument(), *wait_options())
async def stop_command(session: Session, names: Sequence[str], is_detached: bool, timeout_s: float | None) -> int:
    """End copies."""
    from orca.commands.stop import stop_services

    return await carry_out(
        session,
        lambda client, report: stop_services(client, names, report, is_detached=is_detached, timeout_s=timeout_s),
    )


@verb("start", names_argument(), *wait_options())
async def start_command(session: Session, names: Sequence[str], is_detached: bool, timeout_s: float | None) -> int:
    """Run again."""
    from orca.commands.start import start_services

    return await carry_out(
        session,
        lambda client, report: start_services(client, names, report, is_detached=is_detached, timeout_s=timeout_s),
    )


@verb("restart", names_argument(), *wait_options())
async def restart_command(session: Session, names: Sequence[str], is_detached: bool, timeout_s: float | None) -> int:
    """Replace copies."""
    from orca.commands.restart import restart_services

    return await carry_out(
        session,
        lambda client, report: restart_services(client, names, report, is_detached=is_detached, timeout_s=timeout_s),
    )


_ONE_SERVICE = argument("name", metavar="SERVICE", shell_complete=complete_service)


@verb(
    "promote",
    _ONE_SERVICE,
    *wait_options(),
    more='For services whose deploy section has strategy = "canary" or "blue-green".',
)
async def promote_command(session: Session, name: str, is_detached: bool, timeout_s: float | None) -> int:
    """Go on."""
    from orca.commands.promote import promote_service

    return await carry_out(
        session,
        lambda client, report: promote_service(client, name, report, is_detached=is_detached, timeout_s=timeout_s),
    )


@verb("pause", _ONE_SERVICE, more="What runs is still healed. Go on with: orca resume SERVICE")
async def pause_command(session: Session, name: str) -> int:
    """Leave it where it is."""
    from orca.commands.promote import pause_service

    return await carry_out(session, lambda client, report: pause_service(client, name, report))


@verb("resume", _ONE_SERVICE, *wait_options())
async def resume_command(session: Session, name: str, is_detached: bool, timeout_s: float | None) -> int:
    """Go on."""
    from orca.commands.promote import resume_service

    return await carry_out(
        session,
        lambda client, report: resume_service(client, name, report, is_detached=is_detached, timeout_s=timeout_s),
    )


@verb(
    "rollback",
    argument("name", metavar="SERVICE", shell_complete=complete_service),
    option("--to", "revision", type=click.IntRange(min=1), help="The revision; the one before without it."),
    *wait_options(),
    more="The earlier spec comes back as a new revision. See them with: orca history SERVICE",
)
async def rollback_command(
    session: Session, name: str, revision: int | None, is_detached: bool, timeout_s: float | None
) -> int:
    """Go back."""
    from orca.commands.rollback import rollback_service
    from orca.model.ids import SpecRevision

    return await carry_out(
        session,
        lambda client, report: rollback_service(
            client,
            name,
            report,
            revision=None if revision is None else SpecRevision(revision),
            is_detached=is_detached,
            timeout_s=timeout_s,
        ),
    )


@verb(
    "rm",
    names_argument(),
    option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask."),
    *wait_options(),
    more="Named volumes stay.",
)
async def rm_command(
    session: Session, names: Sequence[str], is_sure: bool, is_detached: bool, timeout_s: float | None
) -> int:
    """Remove."""
    from orca.commands.remove import remove_services

    if not is_sure:
        await _ask_before_removal(session, names)
    return await carry_out(
        session,
        lambda client, report: remove_services(client, names, report, is_detached=is_detached, timeout_s=timeout_s),
    )


async def _ask_before_removal(session: Session, names: Sequence[str]) -> None:
    """Return when the person at the terminal agrees; raises InvalidRequestError otherwise."""
    import sys

    import trio

    from orca.commands.names import resolve_services
    from orca.errors import InvalidRequestError
    from orca.model.ids import display_name

    async with session.client() as client:
        services = resolve_services(names, (await client.services()).services)
    if not sys.stdin.isatty() or session.console.as_json:
        raise InvalidRequestError("nobody is there to be asked; say --yes to remove without asking")
    shown = ", ".join(f"{display_name(service.id)} ({service.ready} ready)" for service in services)
    question = f"remove {shown}? [y/N] "
    answer = await trio.to_thread.run_sync(input, question, abandon_on_cancel=True)
    if answer.strip().lower() not in ("y", "yes"):
        raise InvalidRequestError("nothing was removed")
