"""What `orca plan` shows: every field that would change, and what follows from it."""

from typing import TYPE_CHECKING, Final

from orca.cli.text import Cell, clean, wrap
from orca.model.ids import display_name
from orca.model.view import ChangeAction

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.model.view import FieldChange, PlanReply, ServicePlan

MARKS: Final = {
    ChangeAction.CREATE: Cell("+", "green"),
    ChangeAction.UPDATE: Cell("~", "yellow"),
    ChangeAction.REMOVE: Cell("-", "red"),
    ChangeAction.NOTHING: Cell("=", "dim"),
}
WORDS: Final = {
    ChangeAction.CREATE: "would be created",
    ChangeAction.UPDATE: "would be updated",
    ChangeAction.REMOVE: "would be removed",
    ChangeAction.NOTHING: "unchanged",
}


def plan(reply: "PlanReply", console: "Console") -> None:
    """All services, then the sum."""
    for one in reply.services:
        _service(one, console)
    counts = {action: sum(one.action is action for one in reply.services) for action in ChangeAction}
    console.line(
        f"{counts[ChangeAction.CREATE]} to create, {counts[ChangeAction.UPDATE]} to update, "
        f"{counts[ChangeAction.REMOVE]} to remove, {counts[ChangeAction.NOTHING]} unchanged; nothing was changed",
        "bold",
    )


def _service(one: "ServicePlan", console: "Console") -> None:
    mark = MARKS[one.action]
    console.line(f"{mark.text} {display_name(one.service)} {WORDS[one.action]}", mark.style)
    if one.action is ChangeAction.NOTHING:
        return
    for change in one.fields:
        _field(change, console)
    if one.action is ChangeAction.UPDATE:
        effect = "copies are replaced, start-first unless the spec says otherwise"
        console.line(f"    {effect if one.replaces_copies else 'running copies are kept'}", "cyan")
    for placement in one.placements:
        copies = f"{placement.copies} {'copy' if placement.copies == 1 else 'copies'}"
        if placement.node is None:
            for line in wrap(f"{copies} on no node: {clean(placement.reason)}", console.width, "    "):
                console.line(line, "red")
        else:
            reason = f" ({clean(placement.reason)})" if placement.reason else ""
            for line in wrap(
                f"{copies} on {clean(placement.node_name) or placement.node}{reason}", console.width, "    "
            ):
                console.line(line, "cyan")
    console.line()


def _field(change: "FieldChange", console: "Console") -> None:
    before, after = clean(change.before), clean(change.after)
    if not before:
        _block("+", f"{change.key}: {after}", "green", console)
    elif not after:
        _block("-", f"{change.key}: {before}", "red", console)
    elif len(change.key) + len(before) + len(after) + 12 <= console.width:
        console.line(f"    ~ {change.key}: {before} → {after}", "yellow")
    else:
        console.line(f"    ~ {change.key}:", "yellow")
        _block("  -", before, "red", console)
        _block("  +", after, "green", console)


def _block(mark: str, text: str, style: str, console: "Console") -> None:
    for index, line in enumerate(wrap(text, console.width - 5 - len(mark))):
        console.line(f"    {mark if index == 0 else ' ' * len(mark)} {line}", style)
