"""API tokens and the audit as tables."""

from typing import TYPE_CHECKING

from orca.cli.render import age, clock_text
from orca.cli.text import Cell, Column, clean

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.model.access import ApiTokensReply, AuditReply


def api_tokens(reply: "ApiTokensReply", console: "Console") -> None:
    """NAME ID ROLE PROJECTS MADE BY ENDS, one line a token."""
    now_ms = reply.observation.at_ms
    columns = (
        Column("NAME", shrinks_to=8),
        Column("ID"),
        Column("ROLE"),
        Column("PROJECTS", shrinks_to=8),
        Column("MADE", is_number=True),
        Column("BY", shrinks_to=8),
        Column("ENDS", is_number=True),
    )
    rows: list[list[Cell | str]] = [
        [
            clean(one.name),
            one.id,
            one.role.value,
            ", ".join(one.projects) or "all",
            age(one.created_at_ms, now_ms) + " ago",
            clean(one.created_by),
            Cell("expired", "yellow") if one.is_expired else _ends(one.expires_at_ms, now_ms),
        ]
        for one in reply.tokens
    ]
    if rows:
        console.table(columns, rows)
    else:
        console.line("there are no API tokens; orca token create --api NAME makes one")


def _ends(expires_at_ms: int | None, now_ms: int) -> str:
    return "never" if expires_at_ms is None else f"in {age(now_ms, expires_at_ms)}"


def audit(reply: "AuditReply", console: "Console") -> None:
    """TIME ACTOR FROM ACTION SUBJECT RESULT, oldest first; what was refused says why."""
    columns = (
        Column("TIME"),
        Column("ACTOR", shrinks_to=8),
        Column("FROM", shrinks_to=8),
        Column("ACTION", shrinks_to=8),
        Column("SUBJECT", shrinks_to=8),
        Column("RESULT", shrinks_to=8),
    )
    rows: list[list[Cell | str]] = [
        [
            clock_text(one.at_ms),
            clean(one.actor) or "nobody",
            clean(one.origin) or "-",
            clean(one.action) + (f" x{one.count}" if one.count > 1 else ""),
            clean(one.subject) or "-",
            "ok" if one.result == "ok" else Cell(clean(f"{one.result}: {one.message}".removesuffix(": ")), "yellow"),
        ]
        for one in reply.records
    ]
    if rows:
        console.table(columns, rows)
    else:
        console.line("nothing that is kept fits")
