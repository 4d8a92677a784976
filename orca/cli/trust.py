"""Verbs about who belongs to the cluster: token, leave, ca."""

from typing import TYPE_CHECKING, Any, Final

import asyncclick as click

from orca.cli.api_tokens import API_ROLES, create_api_token
from orca.cli.live_names import complete_token
from orca.cli.program import Session, argument, option, verb

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.model.trust_view import AuthoritiesReply, TokenReply, TokensReply

_TOKENS: Final = "create [options] | ls | revoke ID"
_JOIN_ONLY: Final = ("uses", "note")
_API_ONLY: Final = ("projects",)
_CREATE_ONLY: Final = ("ttl", "role", *_JOIN_ONLY, *_API_ONLY, "api")
_JOIN_ROLES: Final = ("member", "worker")


@verb(
    "token",
    argument("words", nargs=-1, required=True, metavar=_TOKENS, shell_complete=complete_token),
    option("--uses", type=click.IntRange(1), metavar="N", help="So many nodes may join by it [1]."),
    option("--ttl", metavar="TIME", help="How long it is good: 30m, 1h, 2d [1h; for the API: for ever]."),
    option(
        "--role",
        type=click.Choice([*_JOIN_ROLES, *API_ROLES]),
        help="What joins: a member or a worker, which never votes [member]; with --api what may be done [viewer].",
    ),
    option("--note", metavar="TEXT", help="Shown by ls."),
    option("--api", metavar="NAME", help="A token for the API instead, called NAME."),
    option("--project", "projects", multiple=True, metavar="NAME", help="With --api: only this one; repeatable."),
    more="The token is shown once. Whoever has a join token can join: give it as $ORCA_JOIN_TOKEN or in a file, not on "
    "a command line, which other users of that computer can read. A token for the API goes into $ORCA_TOKEN, or into "
    "the file that $ORCA_TOKEN_FILE names.",
)
async def token_command(session: Session, words: tuple[str, ...], **options: Any) -> None:
    """Make, list, revoke."""
    from orca.errors import InvalidRequestError

    given = [name for name in _CREATE_ONLY if options[name] not in (None, ())]
    if given and words != ("create",):
        raise InvalidRequestError(f"--{_option_of(given[0])} belongs to `orca token create`")
    match words:
        case ("create",):
            await _create(session, given, options)
        case ("ls",):
            await _list(session)
        case ("revoke", token):
            await _revoke(session, token)
        case _:
            raise InvalidRequestError(f"orca token {' '.join(words)!r} is nothing; there are: {_TOKENS}")


async def _create(session: Session, given: list[str], options: dict[str, Any]) -> None:
    from orca.errors import InvalidRequestError

    foreign, kind = (_API_ONLY, "join") if options["api"] is None else (_JOIN_ONLY, "API")
    for name in given:
        if name in foreign:
            raise InvalidRequestError(f"--{_option_of(name)} is not for {kind} tokens")
    role = options["role"]
    if role is not None and (role in _JOIN_ROLES) != (options["api"] is None):
        allowed = ", ".join(_JOIN_ROLES if options["api"] is None else API_ROLES)
        raise InvalidRequestError(f"{role} is no role of such a token; there are: {allowed}")
    if options["api"] is not None:
        await create_api_token(session, options["api"], role or "viewer", options["projects"], _ttl_s(options))
        return
    async with session.client() as client:
        _show(await client.create_token(_request(options)), session.console, _created)


async def _list(session: Session) -> None:
    async with session.client() as client:
        joining = await client.tokens()
        calling = await client.api_tokens()
    if session.console.as_json:
        shown = {"observation": joining.observation, "tokens": joining.tokens, "api_tokens": calling.tokens}
        session.console.data(shown)
        return
    _tokens(joining, session.console)
    if calling.tokens:
        from orca.cli import access_tables

        session.console.line()
        access_tables.api_tokens(calling, session.console)


async def _revoke(session: Session, text: str) -> None:
    """A join token by its id, an API token by its name, its id or itself."""
    from orca.commands.api_tokens import find_api_token
    from orca.errors import NotFoundError
    from orca.model.ids import TokenId

    console = session.console
    async with session.client() as client:
        try:
            found = find_api_token(text, (await client.api_tokens()).tokens)
        except NotFoundError:
            await client.revoke_token(TokenId(text))
            said = f"nobody joins by {text} any more"
        else:
            await client.revoke_api_token(found.id)
            said = f"the API token {found.name} is revoked; what it opened ends within seconds"
    if console.as_json:
        console.data({"revoked": text})
    else:
        console.line(said, "green")


def _option_of(name: str) -> str:
    return "project" if name == "projects" else name


def _ttl_s(options: dict[str, Any]) -> float | None:
    from orca.errors import InvalidRequestError
    from orca.model.units import parse_duration_s

    if options["ttl"] is None:
        return None
    try:
        return parse_duration_s(options["ttl"])
    except ValueError as error:
        raise InvalidRequestError(f"--ttl {options['ttl']!r}: {error}") from error


def _request(options: dict[str, Any]) -> Any:
    from orca.model.trust import NodeRole
    from orca.model.trust_view import CreateTokenRequest

    fields: dict[str, Any] = {name: options[name] for name in ("uses", "note") if options[name] is not None}
    ttl_s = _ttl_s(options)
    if ttl_s is not None:
        fields["ttl_s"] = ttl_s
    if options["role"] is not None:
        fields["role"] = NodeRole(options["role"])
    return CreateTokenRequest(**fields)


def _show(reply: Any, console: "Console", draw: Any) -> None:
    if console.as_json:
        console.data(reply)
    else:
        draw(reply, console)


def _created(reply: "TokenReply", console: "Console") -> None:
    console.line(reply.token)
    uses = "one node" if reply.uses == 1 else f"{reply.uses} nodes"
    console.line(f"for {uses} ({reply.role.value}), until {_time(reply.expires_at_ms)}; on the other computer:", "dim")
    console.line(f"  export ORCA_JOIN_TOKEN={reply.token}", "dim")
    console.line(f"  orca join {reply.peer}", "dim")


def _tokens(reply: "TokensReply", console: "Console") -> None:
    from orca.cli.text import Cell, Column, clean

    columns = (
        Column("ID"),
        Column("ROLE"),
        Column("USES LEFT", is_number=True),
        Column("GOOD UNTIL"),
        Column("NODES", shrinks_to=8),
        Column("BY", shrinks_to=6),
        Column("NOTE", shrinks_to=6),
    )
    rows: list[list[Cell | str]] = [
        [
            str(one.id),
            one.role.value,
            str(one.uses_left),
            Cell("expired", "dim") if one.is_expired else _time(one.expires_at_ms),
            clean(", ".join(one.nodes)) or "-",
            clean(one.created_by) or "-",
            clean(one.note) or "-",
        ]
        for one in reply.tokens
    ]
    console.table(columns, rows)
    if not rows:
        console.line("no join tokens; `orca token create` makes one", "dim")


@verb(
    "leave",
    option("--force", "is_forced", is_flag=True, help="Although copies are to run there."),
    more="Its seat among the voters goes to another node first. Its data directory can join again, with a new token.",
)
async def leave_command(session: Session, is_forced: bool) -> None:
    """Out of the cluster."""
    async with session.client() as client:
        reply = await client.leave(force=is_forced)
    if session.console.as_json:
        session.console.data(reply)
    else:
        session.console.line("it has left its cluster, and stops", "green")


@verb(
    "ca",
    argument("action", required=False, type=click.Choice(["show", "rotate"]), metavar="[show | rotate]"),
    option("--ingress", "of_ingress", is_flag=True, help="The CA of served names; prints it (PEM)."),
    more="rotate makes a new CA beside the old one; every node gets a certificate of it within seconds, and when the "
    "last one has, the old CA is trusted no more. A node that is down is waited for, or removed. What the ingress "
    "shows is signed by another CA, which lets nobody into the cluster: `orca ca show --ingress > ingress.pem`, then "
    "`curl --cacert ingress.pem https://…`. rotate --ingress replaces it at once, and who trusts it needs the new one.",
)
async def ca_command(session: Session, action: str | None, of_ingress: bool) -> None:
    """Show it, or change it."""
    from orca.errors import NotAvailableError

    is_rotated = action == "rotate"
    async with session.client() as client:
        reply = await (client.rotate_authority(of_ingress=of_ingress) if is_rotated else client.authorities())
    if not of_ingress:
        _show(reply, session.console, _authorities)
        return
    if not reply.ingress:
        raise NotAvailableError("this cluster has no CA for served names yet; its leader makes one within seconds")
    if session.console.as_json:
        session.console.data({"observation": reply.observation, "ingress": reply.ingress})
    else:
        session.console.line(reply.ingress.rstrip("\n"))


def _authorities(reply: "AuthoritiesReply", console: "Console") -> None:
    from orca.cli.text import Column, clean

    columns = (
        Column("FINGERPRINT", shrinks_to=16),
        Column("IN TOKENS"),
        Column("STATE"),
        Column("NODES", is_number=True),
    )
    console.table(
        columns,
        [[one.fingerprint, one.token_fingerprint, one.state.value, str(one.nodes)] for one in reply.authorities],
    )
    if reply.is_changing:
        waiting = ", ".join(clean(name) for name in reply.waiting) or "nobody"
        console.line(f"the CA is being changed; waits for {waiting}", "yellow")


def _time(at_ms: int) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
