"""The verb about the group that decides."""

from typing import TYPE_CHECKING, Any, Final

from orca.cli.members import STATE_STYLES, span
from orca.cli.program import Session, argument, option, verb

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.model.quorum_view import QuorumMember, QuorumReply

_ROLE_STYLES: Final = {"leader": "green bold", "voter": "green", "learner": "cyan"}
_RECOVER: Final = """recover starts the group anew from the node that is asked, and is for the day on which more
than half of the voters are gone and do not come back. What only they knew is lost. Ask the node that knows most: the
command compares it with all others that live, and refuses when one knows more, does not answer, or a quorum
still lives. Who comes back later sets its own log aside in a file, and follows."""


@verb(
    "quorum",
    argument("action", required=False, metavar="[recover]"),
    option("--yes", "-y", "is_sure", is_flag=True, help="For recover: do not ask."),
    option("--force", "is_forced", is_flag=True, help="For recover: although others may know more."),
    more=_RECOVER,
    is_plain=lambda action, **_others: action is None,
)
async def quorum_command(session: Session, action: str | None, is_sure: bool, is_forced: bool) -> int:
    """Voters, and how to begin again without them."""
    from orca.errors import InvalidRequestError

    if action is None:
        if is_sure or is_forced:
            raise InvalidRequestError("--yes and --force belong to `orca quorum recover`")
        reply = await session.reads().quorum()
    elif action == "recover":
        reply = await _recover(session, is_sure=is_sure, is_forced=is_forced)
    else:
        raise InvalidRequestError(f"orca quorum {action} is nothing; there are: orca quorum, orca quorum recover")
    if session.console.as_json:
        session.console.data(reply)
    else:
        show_quorum(reply, session.console)
    return 0 if reply.leader is not None else 5


async def _recover(session: Session, *, is_sure: bool, is_forced: bool) -> "QuorumReply":
    """Ask the person, then the node."""
    import sys

    import trio

    from orca.errors import InvalidRequestError

    async with session.client() as client:
        if not is_sure:
            if not sys.stdin.isatty() or session.console.as_json:
                raise InvalidRequestError(
                    "nobody is there to be asked; say --yes to start the group anew without asking"
                )
            before = await client.quorum()
            show_quorum(before, session.console)
            own = next((one.name for one in before.members if one.id == before.observation.observer), "this node")
            question = (
                f"start the group anew from {own} at entry {before.commit_index}? The others' logs are void then [y/N] "
            )
            answer = await trio.to_thread.run_sync(input, question, abandon_on_cancel=True)
            if answer.strip().lower() not in ("y", "yes"):
                raise InvalidRequestError("nothing was changed")
        return await client.recover_quorum(force=is_forced)


def show_quorum(reply: "QuorumReply", console: "Console") -> None:
    """NODE ROLE STATE INDEX LAG HEARD WHY, voters first, and what the group is at."""
    from orca.cli.text import Cell, Column, clean

    columns = (
        Column("NODE", shrinks_to=10),
        Column("ROLE"),
        Column("STATE"),
        Column("INDEX", is_number=True),
        Column("LAG", is_number=True),
        Column("HEARD", is_number=True),
        Column("WHY", shrinks_to=12),
    )
    order = {"leader": 0, "voter": 1, "learner": 2, "none": 3}
    rows: list[list[Cell | str]] = [
        [
            clean(member.name) + (" *" if member.id == reply.observation.observer else ""),
            Cell(member.role.value if member.role.value != "none" else "-", _ROLE_STYLES.get(member.role.value, "")),
            _state_cell(member),
            "-" if member.index is None else str(member.index),
            "-" if member.lag is None else str(member.lag),
            "-" if member.contact_age_ms is None else f"{span(member.contact_age_ms)} ago",
            clean(member.reason),
        ]
        for member in sorted(reply.members, key=lambda one: (order[one.role.value], one.name))
    ]
    console.table(columns, rows)
    voters = sum(member.role.value in {"leader", "voter"} for member in reply.members)
    console.line(
        f"term {reply.term}, epoch {reply.epoch}, committed {reply.commit_index}, applied here {reply.applied_index}; "
        f"{reply.voters_alive} of {voters} voters alive, {reply.wanted} wanted",
        "dim",
    )
    if reply.last_change:
        console.line(f"last change: {clean(reply.last_change)}", "dim")
    if not reply.has_quorum and voters:
        console.line("no quorum: what runs goes on running, and nothing new can be decided", "red")
    elif reply.leader is None:
        console.line("no leader is known here at present", "yellow")


def _state_cell(member: "QuorumMember") -> Any:
    from orca.cli.text import Cell

    if member.state is None:
        return Cell("unknown", "yellow")
    age = "" if member.state_age_ms is None else f" {span(member.state_age_ms)}"
    return Cell(member.state.value + age, STATE_STYLES[member.state.value])
