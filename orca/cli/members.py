"""Verbs about members: nodes, gossip."""

from typing import TYPE_CHECKING, Any, Final

from orca.cli.live_names import complete_node
from orca.cli.program import Session, argument, option, verb

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.model.trust_view import NodeRemoval
    from orca.model.view import GossipKeyReply, GossipReply, KeysReply, NodesReply

_ACTIONS: Final = ("status", "keys list", "keys show", "keys rotate", "pause", "resume", "send NAME [TEXT]")
STATE_STYLES: Final = {
    "alive": "green",
    "suspect": "yellow",
    "leaving": "yellow",
    "left": "dim",
    "failed": "red",
    "removed": "dim",
}


_GOSSIP: Final = """keys show prints the key that seals gossip, for a Serf agent that is to join; the audit notes who
asked. keys rotate replaces it, on nodes and on Serf agents. pause stops the exchange of facts with this node, and
nothing else: members are still probed."""
_REMOVE: Final = """rm takes a node out of the cluster for ever: every other node refuses it within seconds, and its
identity never comes back. For a node that works and is to go, `orca leave` on it is kinder."""


@verb(
    "nodes",
    argument("words", nargs=-1, metavar="[rm NODE]", shell_complete=complete_node),
    option("--force", "is_forced", is_flag=True, help="For rm: although copies are to run there."),
    more=_REMOVE,
    is_plain=lambda words, **_others: not words,
)
async def nodes_command(session: Session, words: tuple[str, ...], is_forced: bool) -> None:
    """Members, and how to be rid of one."""
    from orca.errors import InvalidRequestError

    match words:
        case ():
            if is_forced:
                raise InvalidRequestError("--force belongs to `orca nodes rm NODE`")
            _show(await session.reads().nodes(), session.console, show_nodes)
        case ("rm", name):
            async with session.client() as client:
                removal = await client.remove_node(name, force=is_forced)
            _show(removal, session.console, _removal)
        case _:
            raise InvalidRequestError(
                f"orca nodes {' '.join(words)!r} is nothing; there are: orca nodes, orca nodes rm NODE"
            )


def _removal(removal: "NodeRemoval", console: "Console") -> None:
    from orca.cli.text import clean

    console.line(f"{clean(removal.name)} ({removal.node}) is no node of this cluster any more", "green")
    for note in removal.notes:
        console.line(f"  {note}", "dim")


def show_nodes(reply: "NodesReply", console: "Console") -> None:
    """NAME ADDRESS STATE FOR HEARD RTT ZONE VERSION, one line a member."""
    from orca.cli.text import Cell, Column, clean

    columns = (
        Column("NAME", shrinks_to=10),
        Column("ADDRESS", shrinks_to=12),
        Column("STATE"),
        Column("FOR", is_number=True),
        Column("HEARD", is_number=True),
        Column("RTT", is_number=True),
        Column("ZONE", shrinks_to=4),
        Column("VERSION", shrinks_to=6),
    )
    rows: list[list[Cell | str]] = [
        [
            clean(member.name) + (" *" if member.is_observer else ""),
            member.address,
            Cell(member.state.value, STATE_STYLES[member.state.value]),
            span(member.state_age_ms),
            "-" if member.heard_age_ms is None else f"{span(member.heard_age_ms)} ago",
            "-" if member.rtt_ms is None else f"{member.rtt_ms:.1f} ms",
            clean(member.zone) or "-",
            clean(member.version) or "serf",
        ]
        for member in reply.members
    ]
    console.table(columns, rows)
    alive = sum(member.state.value in {"alive", "suspect"} for member in reply.members)
    observer = next((clean(member.name) for member in reply.members if member.is_observer), "this node")
    console.line(f"{alive} of {len(reply.members)} alive, as {observer} (*) sees it", "dim")
    if reply.health_score:
        console.line(
            f"{observer} takes itself to be slow (score {reply.health_score}): trust its view of others less", "yellow"
        )


def span(milliseconds: int) -> str:
    """How long, for people."""
    from orca.model.units import format_duration

    return format_duration(milliseconds / 1000 if milliseconds < 1000 else round(milliseconds / 1000))


@verb(
    "gossip",
    argument("words", nargs=-1, metavar="[" + " | ".join(_ACTIONS) + "]"),
    option("--key-file", metavar="FILE", help="For keys rotate: the new key, base64 [one is made]."),
    option("--allow-absent", is_flag=True, help="For keys rotate: although members have failed."),
    more=_GOSSIP,
)
async def gossip_command(session: Session, words: tuple[str, ...], key_file: str | None, allow_absent: bool) -> int:
    """Counters, keys, the kill switch."""
    from orca.errors import InvalidRequestError
    from orca.model.view import RotateRequest, UserEventRequest

    console = session.console
    async with session.client() as client:
        match words or ("status",):
            case ("status",):
                _show(await client.gossip(), console, _status)
            case ("keys",) | ("keys", "list"):
                _show(await client.gossip_keys(), console, _keys)
            case ("keys", "show"):
                _show(await client.gossip_key(), console, _key)
            case ("keys", "rotate"):
                request = RotateRequest(key=_key_in(key_file), allow_absent=allow_absent)
                reply = await client.rotate_gossip_keys(request)
                _show(reply, console, _rotation)
                return 0 if reply.is_done else 1
            case ("pause" | "resume" as word,):
                _show(await client.pause_gossip(is_paused=word == "pause"), console, _status)
            case ("send", name):
                await client.send_event(UserEventRequest(name=name))
            case ("send", name, payload):
                await client.send_event(UserEventRequest(name=name, payload=payload))
            case _:
                raise InvalidRequestError(
                    f"orca gossip {' '.join(words)!r} is nothing; there are: {', '.join(_ACTIONS)}"
                )
    return 0


def _show(reply: Any, console: "Console", draw: Any) -> None:
    if console.as_json:
        console.data(reply)
    else:
        draw(reply, console)


def _key_in(path: str | None) -> str:
    from pathlib import Path

    from orca.errors import InvalidRequestError

    if path is None:
        return ""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{path} cannot be read: {error}") from error


def _status(reply: "GossipReply", console: "Console") -> None:
    console.line(f"{reply.address}, profile {reply.profile}, {'sealed' if reply.is_encrypted else 'not sealed'}")
    if reply.agent:
        console.line(f"membership is kept by the Serf agent at {reply.agent}")
    if reply.problem:
        console.problem(reply.problem, "red")
    if reply.rpc:
        console.line(f"Serf's RPC is served at {reply.rpc}")
    if reply.is_paused:
        console.line("paused: no fact goes out or comes in; `orca gossip resume` ends that", "yellow")
    console.line(f"health score {reply.health_score} (0 is well), {reply.fact_bytes} bytes of facts")
    for title, numbers in (("counts", reply.counts), ("queues", reply.queues), ("drops", reply.drops)):
        console.line(f"{title}:")
        for name, number in numbers.items():
            console.line(f"  {name:<32} {number:>12}")
        if not numbers:
            console.line("  none", "dim")


def _keys(reply: "KeysReply", console: "Console") -> None:
    from orca.cli.text import Column

    for report in reply.reports:
        columns = (Column("KEY"), Column("MEMBERS", is_number=True), Column("SEALS FOR", is_number=True))
        rows = [
            [key, f"{count}/{report.expected}", f"{report.primary_keys.get(key, 0)}/{report.expected}"]
            for key, count in report.keys.items()
        ]
        console.table(columns, rows)
        _complaints(report, console)


def _key(reply: "GossipKeyReply", console: "Console") -> None:
    """Nothing but the key, for `serf agent -encrypt="$(orca gossip keys show)"`."""
    console.line(reply.key)


def _rotation(reply: "KeysReply", console: "Console") -> None:
    for report in reply.reports:
        attempt = f", attempt {report.attempt}" if report.attempt > 1 else ""
        console.line(f"{report.operation.replace('_', ' ')}: {report.answered} of {report.expected} members{attempt}")
        _complaints(report, console)
    if reply.is_done:
        console.line("done: only the new key is left", "green")
        if reply.reason:
            console.line(reply.reason, "yellow")
    else:
        console.problem(f"stopped: {reply.reason}", "red bold")


def _complaints(report: Any, console: "Console") -> None:
    for node, why in report.failures.items():
        console.line(f"  {node}: {why}", "red")
    if report.silent:
        console.line(f"  no answer from {', '.join(report.silent)}", "yellow")
