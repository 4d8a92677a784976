"""The verb `alerts`: what is wrong, and what to do next."""

from typing import TYPE_CHECKING

from orca.cli.program import Session, argument, option, verb

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.cli.text import Cell
    from orca.model.alert import AlertsReply, AlertView


@verb(
    "alerts",
    argument("name", required=False, metavar="[ALERT]"),
    option("--all", "-a", "has_resolved", is_flag=True, help="Also those that are over."),
    more="Found in the histories of all nodes whenever you ask. With an alert's id, or what it is about: the evidence, "
    "quoted, and possible causes, the likeliest first, each with the command that checks or mends it.",
    is_plain=True,
)
async def alerts_command(session: Session, name: str | None, has_resolved: bool) -> None:
    """Alerts in a table, or one of them at length."""
    import msgspec

    from orca.errors import NotFoundError

    reply = await session.reads().alerts(has_resolved=has_resolved or name is not None)
    if name is not None:
        found = tuple(one for one in reply.alerts if name in (one.id, one.subject, one.service))
        if not found:
            known = ", ".join(one.id for one in reply.alerts[:20]) or "none"
            raise NotFoundError(f"there is no alert {name[:80]!r}; there are: {known}")
        reply = msgspec.structs.replace(reply, alerts=found)
    if session.console.as_json:
        session.console.data(reply)
    elif name is not None:
        for one in reply.alerts:
            explain(one, session.console)
    else:
        show(reply, session.console)


def show(reply: "AlertsReply", console: "Console") -> None:
    """ALERT STATE SINCE WHAT, one line an alert, then what the answer does not cover."""
    from orca.cli.render import clock_text, silence
    from orca.cli.text import Cell, Column, clean

    if not reply.alerts:
        console.line("no alerts", "green")
    else:
        rows: list[list[Cell | str]] = [
            [clean(one.id), _state(one), clock_text(one.since_ms), clean(one.facts[0])] for one in reply.alerts
        ]
        columns = (Column("ALERT"), Column("STATE"), Column("SINCE"), Column("WHAT", shrinks_to=20))
        console.table(columns, rows)
        console.line("`orca alerts ALERT` shows evidence and possible causes", "dim")
    if reply.looked_from_ms is not None:
        console.line(f"events before {clock_text(reply.looked_from_ms)} were not looked at", "dim")
    for one in reply.silent:
        console.line(silence(one), "yellow")


def explain(alert: "AlertView", console: "Console") -> None:
    """Facts, quoted events, and possible causes with their commands."""
    from orca.cli.render import clock_text
    from orca.cli.text import clean

    style = "dim" if alert.resolved_at_ms is not None else _STYLES[alert.severity.value]
    until = f", until {clock_text(alert.resolved_at_ms)}" if alert.resolved_at_ms is not None else ""
    console.line(f"{clean(alert.id)}: {alert.state.value} since {clock_text(alert.since_ms)}{until}", style)
    for fact in alert.facts:
        console.line(f"  {clean(fact)}")
    console.line("evidence, quoted:", "dim")
    for quote in alert.quotes:
        console.line(f"  > {clean(quote)}")
    console.line("possible causes:", "dim")
    for number, one in enumerate(alert.causes, 1):
        console.line(f"  {number}. {clean(one.cause)} ({clean(one.because)})")
        console.line(f"     {clean(one.command)}", "bold")


_STYLES = {"error": "red bold", "warning": "yellow", "info": ""}


def _state(alert: "AlertView") -> "Cell":
    from orca.cli.text import Cell

    firing = alert.resolved_at_ms is None
    return Cell(alert.state.value, _STYLES[alert.severity.value] if firing else "dim")
