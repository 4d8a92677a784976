"""The verb `doctor`: what is wrong with the cluster, and the command or line that mends it."""

from typing import TYPE_CHECKING, Final

from orca.cli.program import Session, option, verb

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.cli.text import Cell
    from orca.model.doctor import DoctorReply, NodeExamination
    from orca.model.ids import NodeId

LINKS_MAX: Final = 60
"""More links than that are shown only where something is wrong."""
EXIT_FOUND: Final = 1


@verb(
    "doctor",
    option("--links", "shows_links", is_flag=True, help="Show every link, in clusters of any size."),
    more="Asks every node which others it reaches on which port and protocol, for its clock, its runtimes, its disk "
    "and its certificate, and says what happens when a node dies. Exit code 1 when an error was found.",
)
async def doctor_command(session: Session, shows_links: bool) -> int:
    """Findings."""
    from orca.model.event import Severity

    console = session.console
    async with session.client() as client:
        reply = await client.doctor()
    if console.as_json:
        console.data(reply)
    else:
        show(reply, console, shows_links=shows_links)
    return EXIT_FOUND if any(one.severity is Severity.ERROR for one in reply.findings) else 0


def show(reply: "DoctorReply", console: "Console", *, shows_links: bool = False) -> None:
    """Nodes, links, findings with their mending, and the outlook."""
    from orca.cli.text import Cell, Column, clean
    from orca.model.event import Severity

    _show_nodes(reply, console)
    rows = _link_rows(reply.nodes)
    if len(rows) > LINKS_MAX and not shows_links:
        console.line(f"{len(rows)} pairs of nodes; those with a broken link:", "dim")
        rows = [row for row in rows if any(isinstance(cell, Cell) and cell.style == "red" for cell in row)]
    if rows:
        columns = (
            Column("FROM", shrinks_to=8),
            Column("TO", shrinks_to=8),
            *(Column(name, is_number=True) for name in ("UDP", "TCP", "MESH")),
        )
        console.line("")
        console.table(columns, rows)
    console.line("")
    styles = {Severity.ERROR: "red bold", Severity.WARNING: "yellow", Severity.INFO: ""}
    for one in reply.findings:
        console.line(f"{one.severity.value}: {clean(one.subject)} {clean(one.message)}", styles[one.severity])
        if one.mend:
            console.line(f"  mend: {clean(one.mend)}")
    if not reply.findings:
        console.line("nothing is wrong", "green")
    console.line("")
    for line in reply.outlook:
        console.line(clean(line), "dim")


def _show_nodes(reply: "DoctorReply", console: "Console") -> None:
    from orca.cli.members import span
    from orca.cli.text import Cell, Column, clean

    columns = (
        Column("NODE", shrinks_to=8),
        Column("REPORT"),
        Column("VOTES"),
        Column("CLOCK", is_number=True),
        Column("DISK FREE", is_number=True),
        Column("CERTIFICATE", is_number=True),
        Column("VERSION", shrinks_to=6),
    )
    rows: list[list[Cell | str]] = []
    for one in reply.nodes:
        report = one.report
        name = clean(one.name) + (" *" if one.node == reply.observation.observer else "")
        votes = "yes" if one.is_voter else "-"
        if report is None:
            age = "never heard" if one.heard_age_ms is None else f"heard {span(one.heard_age_ms)} ago"
            rows.append([name, Cell(f"none, {age}", "red"), votes, "-", "-", "-", "-"])
            continue
        free = min((disk.free_bytes / disk.total_bytes for disk in report.disks if disk.total_bytes), default=None)
        ends = report.certificate_ends_at_ms
        rows.append(
            [
                name,
                Cell("now", "green"),
                votes,
                "=" if abs(one.clock_offset_ms) <= one.clock_error_ms else f"{one.clock_offset_ms / 1000:+.1f} s",
                "-" if free is None else f"{free:.0%}",
                "-" if ends is None else f"{span(max(0, ends - report.at_ms))} left",
                clean(report.version),
            ]
        )
    console.table(columns, rows)


def _link_rows(nodes: "tuple[NodeExamination, ...]") -> "list[list[Cell | str]]":
    from orca.cli.text import Cell, clean
    from orca.model.doctor import LinkKind

    names = {one.node: clean(one.name) for one in nodes}
    rows: list[list[Cell | str]] = []
    for one in nodes:
        found: dict[NodeId, dict[LinkKind, Cell]] = {}
        for link in [] if one.report is None else one.report.links:
            cell = Cell("closed", "red") if link.rtt_ms is None else Cell(f"{link.rtt_ms:.1f} ms", "")
            found.setdefault(link.peer, {})[link.kind] = cell
        for peer, cells in found.items():
            rows.append(
                [names[one.node], names.get(peer, peer), *(cells.get(kind, Cell("?", "yellow")) for kind in LinkKind)]
            )
    return rows
