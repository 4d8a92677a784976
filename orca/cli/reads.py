"""Verbs that look: status, ps, stats, history, version. They need no event loop, and so start quickly."""

import asyncclick as click

from orca.cli.changes import Duration
from orca.cli.live_names import complete_service, complete_target
from orca.cli.program import Session, argument, option, verb

STATS_INTERVAL_S = 2.0


@verb("status", is_plain=True)
async def status_command(session: Session) -> None:
    """Nodes, leader, services."""
    from orca.cli import render
    from orca.commands.status import cluster_status

    reply = await cluster_status(session.reads())
    if session.console.as_json:
        session.console.data(reply)
    else:
        render.status(reply, session.console)


@verb(
    "ps",
    argument("names", nargs=-1, metavar="[SERVICE]...", shell_complete=complete_service),
    option("--all", "-a", "with_ended", is_flag=True, help="Copies that ended on purpose, too."),
    is_plain=True,
)
async def ps_command(session: Session, names: tuple[str, ...], with_ended: bool) -> None:
    """Copies."""
    from orca.cli import render
    from orca.commands.ps import list_copies

    found = await list_copies(session.reads(), names, with_ended=with_ended)
    if session.console.as_json:
        session.console.data(found)
    else:
        render.copies(found, session.console)


@verb(
    "stats",
    argument("names", nargs=-1, metavar="[SERVICE|COPY]...", shell_complete=complete_target),
    option("--watch", "-w", "is_watched", is_flag=True, help="Again every 2 seconds, until Ctrl-C."),
    option("--since", "since_s", type=Duration(), help="Over time, from so long ago on: 10m, 1h, 7d."),
    option("--nodes", "is_of_nodes", is_flag=True, help="With --since: of nodes, not of copies."),
    option(
        "--traffic", "is_of_services", is_flag=True, help="With --since: of services, as proxies answered for them."
    ),
    more="CPU is in cores. With --watch and --json there is one document a line. Every node keeps each second of the "
    "last ten minutes and each minute of the last seven days.",
    is_plain=True,
)
async def stats_command(
    session: Session,
    names: tuple[str, ...],
    *,
    is_watched: bool,
    since_s: float | None,
    is_of_nodes: bool,
    is_of_services: bool,
) -> None:
    """Use of resources."""
    from orca.cli import render
    from orca.commands.stats import copy_stats
    from orca.errors import InvalidRequestError

    console = session.console
    reads = session.reads()
    if since_s is None and (is_of_nodes or is_of_services):
        raise InvalidRequestError("--nodes and --traffic need --since: orca stats --since 1h --nodes")
    if since_s is not None:
        from orca.cli.series import show_series
        from orca.commands.stats import SeriesKind, series_since

        if is_watched or (is_of_nodes and (is_of_services or names)):
            raise InvalidRequestError(
                "--since goes with one of --nodes and --traffic, without names of services or --watch"
            )
        kind = SeriesKind.NODES if is_of_nodes else SeriesKind.SERVICES if is_of_services else SeriesKind.COPIES
        show_series(await series_since(reads, names, since_s, kind), kind, console)
        return
    while True:
        reply = await copy_stats(reads, names)
        if console.as_json:
            console.data(reply, is_streamed=is_watched)
        else:
            if is_watched and console.is_terminal and console.is_live:
                console.out.write("\x1b[H\x1b[2J")
            render.stats(reply, console)
            console.out.flush()
        if not is_watched:
            return
        _pause(STATS_INTERVAL_S)


@verb("history", argument("name", metavar="SERVICE", shell_complete=complete_service), is_plain=True)
async def history_command(session: Session, name: str) -> None:
    """Revisions."""
    from orca.cli import render
    from orca.commands.history import service_history

    reply = await service_history(session.reads(), name)
    if session.console.as_json:
        session.console.data(reply)
    else:
        render.history(reply, session.console)


@verb("version", more="A node that does not answer is said, and is no failure.", is_plain=True)
async def version_command(session: Session) -> None:
    """Versions."""
    from orca.cli import render
    from orca.commands.version import versions

    found = await versions(session.reads())
    if session.console.as_json:
        session.console.data(found)
    else:
        render.versions(found, session.console)


@verb(
    "audit",
    option("--actor", metavar="TEXT", help="Only of actors with TEXT in their name, for example token:ci."),
    option("--subject", metavar="TEXT", help="Only about what has TEXT in its name, for example shop/web."),
    option("--since", "since_s", type=Duration(), metavar="AGO", help="Only what is younger than this: 5m, 2h."),
    option(
        "--limit", "-n", type=click.IntRange(1, 12_000), default=50, help="The newest N records.", show_default=True
    ),
    more="Changes are kept up to ten thousand, and refusals that never came to the log apart from them, up to two "
    "thousand; many of one kind are one line with their number.",
    is_plain=True,
)
async def audit_command(
    session: Session, actor: str | None, subject: str | None, since_s: float | None, limit: int
) -> None:
    """Who did what."""
    from orca.cli import access_tables
    from orca.cli.streams import since_ms_of
    from orca.commands.audit import list_audit

    reply = await list_audit(session.reads(), limit=limit, since_ms=since_ms_of(since_s), actor=actor, subject=subject)
    if session.console.as_json:
        session.console.data(reply)
    else:
        access_tables.audit(reply, session.console)


def _pause(seconds: float) -> None:
    import time

    time.sleep(seconds)
