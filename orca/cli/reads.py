"""Verbs that look once: status, ps, stats, history, version."""

from orca.cli.live_names import complete_service, complete_target
from orca.cli.program import Session, argument, option, verb

STATS_INTERVAL_S = 2.0


@verb("status")
async def status_command(session: Session) -> None:
    """Nodes, leader, services."""
    from orca.cli import render
    from orca.commands.status import cluster_status

    async with session.client() as client:
        reply = await cluster_status(client)
    if session.console.as_json:
        session.console.data(reply)
    else:
        render.status(reply, session.console)


@verb(
    "ps",
    argument("names", nargs=-1, metavar="[SERVICE]...", shell_complete=complete_service),
    option("--all", "-a", "with_ended", is_flag=True, help="Copies that ended on purpose, too."),
)
async def ps_command(session: Session, names: tuple[str, ...], with_ended: bool) -> None:
    """Copies."""
    from orca.cli import render
    from orca.commands.ps import list_copies

    async with session.client() as client:
        found = await list_copies(client, names, with_ended=with_ended)
    if session.console.as_json:
        session.console.data(found)
    else:
        render.copies(found, session.console)


@verb(
    "stats",
    argument("names", nargs=-1, metavar="[SERVICE|COPY]...", shell_complete=complete_target),
    option("--watch", "-w", "is_watched", is_flag=True, help="Again every 2 seconds, until Ctrl-C."),
    more="CPU is in cores. With --watch and --json there is one document a line.",
)
async def stats_command(session: Session, names: tuple[str, ...], is_watched: bool) -> None:
    """Use of resources."""
    import trio

    from orca.cli import render
    from orca.commands.stats import copy_stats

    console = session.console
    async with session.client() as client:
        while True:
            reply = await copy_stats(client, names)
            if console.as_json:
                console.data(reply, is_streamed=is_watched)
            else:
                if is_watched and console.is_terminal and console.is_live:
                    console.out.write("\x1b[H\x1b[2J")
                render.stats(reply, console)
                console.out.flush()
            if not is_watched:
                return
            await trio.sleep(STATS_INTERVAL_S)


@verb("history", argument("name", metavar="SERVICE", shell_complete=complete_service))
async def history_command(session: Session, name: str) -> None:
    """Revisions."""
    from orca.cli import render
    from orca.commands.history import service_history

    async with session.client() as client:
        reply = await service_history(client, name)
    if session.console.as_json:
        session.console.data(reply)
    else:
        render.history(reply, session.console)


@verb("version", more="A node that does not answer is said, and is no failure.")
async def version_command(session: Session) -> None:
    """Versions."""
    from orca.cli import render
    from orca.commands.version import versions

    async with session.client() as client:
        found = await versions(client)
    if session.console.as_json:
        session.console.data(found)
    else:
        render.versions(found, session.console)
