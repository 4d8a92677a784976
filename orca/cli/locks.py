"""The verb `lock`: who holds back deploys, and how that begins and ends."""

from typing import TYPE_CHECKING, Final

from orca.cli.changes import Duration
from orca.cli.program import Session, argument, option, verb

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.model.lock_view import LocksReply

_ACTIONS: Final = ("ls", "acquire [PROJECT...]", "release [PROJECT...]")


@verb(
    "lock",
    argument("words", nargs=-1, metavar="[" + " | ".join(_ACTIONS) + "]"),
    option("--message", "-m", "note", default="", metavar="TEXT", help="For acquire: why; shown to who is refused."),
    option("--for", "ttl_s", type=Duration(), help="For acquire: when it ends by itself; without it never."),
    more="While a project [default] is locked, only deploys that name the lock are let in: orca deploy --under ID. "
    "orca deploy --lock holds one for as long as the deploy takes. Rolling back, stopping and scaling stay possible, "
    "and everybody who may deploy may release; the audit has who did.",
)
async def lock_command(session: Session, words: tuple[str, ...], note: str, ttl_s: float | None) -> int:
    """Deploy locks."""
    import msgspec

    from orca.errors import InvalidRequestError
    from orca.model.ids import DEFAULT_PROJECT, ProjectName
    from orca.model.lock_view import LockRequest

    console = session.console
    action, *names = words or ("ls",)
    projects = tuple(ProjectName(name) for name in names) or (DEFAULT_PROJECT,)
    if action != "acquire" and (note or ttl_s is not None):
        raise InvalidRequestError("--message and --for are for orca lock acquire")
    async with session.client() as client:
        match action:
            case "ls" if not names:
                _show(await client.locks(), console)
            case "acquire":
                reply = await client.acquire_lock(LockRequest(projects=projects, note=note, ttl_s=ttl_s))
                if console.as_json:
                    console.data(reply)
                else:
                    console.line(f"{', '.join(projects)}: deploys are locked", "green")
                    console.line(f"deploy under it with: orca deploy --under {reply.locks[0].id} PATH")
            case "release":
                replies = [await client.release_lock(project) for project in projects]
                if console.as_json:
                    locks = tuple(one for got in replies for one in got.locks)
                    console.data(msgspec.structs.replace(replies[-1], locks=locks))
                else:
                    console.line(f"{', '.join(projects)}: everybody may deploy again", "green")
            case _:
                raise InvalidRequestError(f"orca lock {' '.join(words)!r} is nothing; there are: {', '.join(_ACTIONS)}")
    return 0


def _show(reply: "LocksReply", console: "Console") -> None:
    """PROJECT HOLDER SINCE ENDS WHY."""
    from orca.cli.members import span
    from orca.cli.text import Column, clean

    if console.as_json:
        console.data(reply)
        return
    if not reply.locks:
        console.line("no project is locked", "dim")
        return
    now_ms = reply.observation.at_ms
    columns = (
        Column("PROJECT", shrinks_to=10),
        Column("HOLDER", shrinks_to=10),
        Column("SINCE", is_number=True),
        Column("ENDS", is_number=True),
        Column("WHY", shrinks_to=10),
    )
    rows = [
        [
            clean(one.project),
            clean(one.holder),
            f"{span(max(0, now_ms - one.since_ms))} ago",
            "when released" if one.expires_at_ms is None else f"in {span(max(0, one.expires_at_ms - now_ms))}",
            clean(one.note),
        ]
        for one in reply.locks
    ]
    console.table(columns, rows)
