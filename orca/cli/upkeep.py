"""Verbs about where work goes: why, label, cordon, uncordon, drain, undrain."""

from typing import TYPE_CHECKING, Final

from orca.cli.live_names import complete_member, complete_target
from orca.cli.program import Session, argument, option, verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orca.cli.console import Console
    from orca.model.placement_view import NodeCareReply, WhyReply

POLL_S: Final = 0.5
DRAIN_TIMEOUT: Final = "1h"
_NODE: Final = argument("name", metavar="NODE", shell_complete=complete_member)


@verb(
    "why",
    argument("target", metavar="SERVICE|COPY", shell_complete=complete_target),
    more="Every node with the reason why it cannot take one more copy, and every copy with the reason why it stays, "
    "waits or goes. Any node answers, by what it knows.",
)
async def why_command(session: Session, target: str) -> None:
    """Reasons of the scheduler."""
    import msgspec

    from orca.commands.names import OneCopy, resolve_target

    async with session.client() as client:
        found = resolve_target(target, (await client.services()).services)
        reply = await client.why(found.service.id)
    if isinstance(found, OneCopy):
        only = tuple(one for one in reply.copies if one.allocation == found.copy.id)
        reply = msgspec.structs.replace(reply, copies=only)
    if session.console.as_json:
        session.console.data(reply)
    else:
        show_why(reply, session.console)


def show_why(reply: "WhyReply", console: "Console") -> None:
    """NODE COPIES ONE MORE, then COPY NODE WHY."""
    from orca.cli.text import Cell, Column, clean
    from orca.model.ids import display_name

    columns = (Column("NODE", shrinks_to=10), Column("COPIES", is_number=True), Column("ONE MORE", shrinks_to=20))
    rows: list[list[Cell | str]] = [
        [
            clean(one.name),
            str(one.copies),
            Cell(f"no: {clean(one.refusal)}", "yellow") if one.refusal else Cell("yes", "green"),
        ]
        for one in reply.nodes
    ]
    console.table(columns, rows)
    if reply.copies:
        console.line("")
        name = display_name(reply.service)
        where = (Column("COPY", shrinks_to=8), Column("NODE", shrinks_to=8), Column("WHY", shrinks_to=20))
        console.table(
            where, [[f"{name}.{one.slot + 1}", clean(one.node_name), clean(one.reason)] for one in reply.copies]
        )
    if reply.waits_for:
        console.line(f"waits: {clean(reply.waits_for)}", "yellow")


@verb(
    "label",
    _NODE,
    argument("labels", nargs=-1, metavar="[KEY=VALUE | KEY-]..."),
    more="KEY=VALUE sets a label, KEY- removes one, and without any the node's labels are shown. Labels set here stand "
    "above those of the node's own configuration. Copies that do not fit any more move away, start-first.",
)
async def label_command(session: Session, name: str, labels: tuple[str, ...]) -> None:
    """Labels of a node."""
    from orca.errors import InvalidRequestError
    from orca.model.placement_view import LabelRequest

    wanted: dict[str, str] = {}
    remove: list[str] = []
    for text in labels:
        key, mark, value = text.partition("=")
        if mark and key:
            wanted[key] = value
        elif not mark and len(text) > 1 and text.endswith("-"):
            remove.append(text[:-1])
        else:
            raise InvalidRequestError(f"{text!r} is no label; KEY=VALUE sets one and KEY- removes it")
    async with session.client() as client:
        if not labels:
            reply = await client.node_care(name)
        else:
            reply = await client.care_for(name, "label", LabelRequest(labels=wanted, remove=tuple(remove)))
    if session.console.as_json:
        session.console.data(reply)
    else:
        _show_labels(reply.labels, session.console)


def _show_labels(labels: "Mapping[str, str]", console: "Console") -> None:
    from orca.cli.text import clean

    for key, value in sorted(labels.items()):
        console.line(f"{clean(key)}={clean(value)}")
    if not labels:
        console.line("no labels", "dim")


@verb(
    "cordon",
    _NODE,
    option("--reason", default="", metavar="TEXT", help="Shown to whoever asks why."),
    more="Nothing new is placed on the node; what runs there goes on. `orca uncordon` ends it.",
)
async def cordon_command(session: Session, name: str, reason: str) -> None:
    """No new work for a node."""
    from orca.model.placement_view import CordonRequest

    async with session.client() as client:
        reply = await client.care_for(name, "cordon", CordonRequest(reason=reason))
    _tell(reply, session.console, f"{reply.name} takes no new work; {len(reply.left)} copies stay there")


@verb("uncordon", _NODE, more="The same as `orca undrain`.")
async def uncordon_command(session: Session, name: str) -> None:
    """Work again for a cordoned node."""
    await _undrain(session, name)


@verb("undrain", _NODE, more="Nothing moves back by itself: new copies find the node by the rules of placement.")
async def undrain_command(session: Session, name: str) -> None:
    """Work again for a drained node."""
    await _undrain(session, name)


async def _undrain(session: Session, name: str) -> None:
    from orca.model.placement_view import UndrainRequest

    async with session.client() as client:
        reply = await client.care_for(name, "undrain", UndrainRequest())
    _tell(reply, session.console, f"{reply.name} takes work")


@verb(
    "drain",
    _NODE,
    option("--reason", default="", metavar="TEXT", help="Shown to whoever asks why."),
    option("--deadline", metavar="TIME", help="After that copies are stopped wherever they are [wait for ever]."),
    option("--detach", "-d", "is_detached", is_flag=True, help="Do not wait until the node is empty."),
    option("--timeout", default=DRAIN_TIMEOUT, metavar="TIME", help=f"How long to wait here [{DRAIN_TIMEOUT}]."),
    more="Copies start elsewhere before they stop here. One that cannot run beside its successor stops first, and only "
    "when another node can take it; one whose volume is here stays, and a job may run to its end. What is left "
    "is shown with what it waits for.",
)
async def drain_command(
    session: Session, name: str, reason: str, deadline: str | None, is_detached: bool, timeout: str
) -> int:
    """Move the work of a node to others."""
    import trio

    from orca.model.placement_view import DrainRequest

    deadline_s = None if deadline is None else _seconds(deadline, "--deadline")
    timeout_s = _seconds(timeout, "--timeout")
    async with session.client() as client:
        reply = await client.care_for(name, "drain", DrainRequest(reason=reason, deadline_s=deadline_s))
        if not is_detached:
            told: tuple[str, ...] = ()
            with trio.move_on_after(timeout_s):
                while reply.left:
                    told = _progress(reply, session.console, told)
                    await trio.sleep(POLL_S)
                    reply = await client.node_care(name)
    rest = f"{len(reply.left)} copies left" if reply.left else "nothing is left on it"
    _tell(reply, session.console, f"{reply.name} is drained: {rest}")
    return 1 if reply.left and not is_detached else 0


def _seconds(text: str, option_name: str) -> float:
    from orca.errors import InvalidRequestError
    from orca.model.units import parse_duration_s

    try:
        return float(parse_duration_s(text))
    except ValueError as problem:
        raise InvalidRequestError(f"{option_name}: {problem}") from problem


def _progress(reply: "NodeCareReply", console: "Console", told: tuple[str, ...]) -> tuple[str, ...]:
    """Say what is left, each time it is something else."""
    lines = _left(reply)
    if lines != told:
        console.note(f"{len(lines)} left on {reply.name}")
        for line in lines[:20]:
            console.note(f"  {line}")
    return lines


def _left(reply: "NodeCareReply") -> tuple[str, ...]:
    from orca.cli.text import clean
    from orca.model.ids import display_name

    return tuple(f"{display_name(one.service)}.{one.slot + 1} {clean(one.reason)}" for one in reply.left)


def _tell(reply: "NodeCareReply", console: "Console", line: str) -> None:
    if console.as_json:
        console.data(reply)
        return
    console.line(line, "yellow" if reply.left and reply.availability.value == "draining" else "green")
    if reply.availability.value == "draining":
        for left in _left(reply):
            console.line(f"  {left}")
