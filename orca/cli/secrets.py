"""The verb `secrets`: values go in by file, pipe or prompt, and never come out."""

import sys
from typing import TYPE_CHECKING, Final

from orca.cli.program import Session, argument, option, verb

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.model.ids import SecretId
    from orca.model.secret_view import SecretsChangeReply, SecretsReply

_ACTIONS: Final = ("ls", "set NAME", "import FILE", "rm NAME...", "rotate")


@verb(
    "secrets",
    argument("words", nargs=-1, metavar="[" + " | ".join(_ACTIONS) + "]"),
    option("--project", metavar="NAME", help="Project of names that have none [default]."),
    option("--cluster", "for_cluster", is_flag=True, help="For the whole cluster: every project may use it."),
    option("--file", "file", metavar="FILE", help="For set: the value, byte by byte."),
    more="NAME is a name or PROJECT/NAME. set takes the value from --file, from standard input, or asks for it without "
    "showing it; one line end after it is cut off, except from --file. import takes a .env file. A service names a "
    'secret as "${secrets.NAME}" in a value of env, or mounts it: files."/run/secrets/x" = { secret = "NAME" }. '
    "Services that use a secret get new copies when it changes. rotate seals all of them with a new key of the "
    "cluster; values stay, and so do copies.",
)
async def secrets_command(
    session: Session, words: tuple[str, ...], project: str | None, for_cluster: bool, file: str | None
) -> int:
    """Secrets."""
    import trio

    from orca.errors import InvalidRequestError

    if for_cluster and project is not None:
        raise InvalidRequestError("--project and --cluster contradict each other; give one of them")
    console = session.console
    async with session.client() as client:
        match words or ("ls",):
            case ("ls",):
                from orca.model.ids import ProjectName

                reply = await client.secrets(None if project is None else ProjectName(project))
                _show_list(reply, console, only_cluster=for_cluster)
            case ("set", name):
                value = await trio.to_thread.run_sync(_value, name, file)
                _show_change(await client.set_secrets({_id(name, project, for_cluster): value}), console)
            case ("import", path):
                found = await trio.to_thread.run_sync(_read_values, path)
                values = {_id(name, project, for_cluster): value for name, value in found.items()}
                _show_change(await client.set_secrets(values), console)
            case ("rm", *names) if names:
                for name in names:
                    _show_change(await client.remove_secret(_id(name, project, for_cluster)), console, "removed")
            case ("rotate",):
                reply_key = await client.rotate_data_key()
                if console.as_json:
                    console.data(reply_key)
                else:
                    console.line(f"{reply_key.secrets} secrets are sealed with data key {reply_key.version}", "green")
            case _:
                raise InvalidRequestError(
                    f"orca secrets {' '.join(words)!r} is nothing; there are: {', '.join(_ACTIONS)}"
                )
    return 0


def _id(name: str, project: str | None, for_cluster: bool) -> "SecretId":
    """What `name` means beside the options. Raises InvalidRequestError when they contradict each other."""
    from orca.errors import InvalidRequestError
    from orca.model.ids import DEFAULT_PROJECT, ProjectName, SecretId
    from orca.model.secrets import secret_id

    if "/" in name:
        if for_cluster or (project is not None and not name.startswith(f"{project}/")):
            raise InvalidRequestError(f"{name} names its project already; leave --project and --cluster out")
        return SecretId(name)
    return secret_id(None if for_cluster else ProjectName(project or DEFAULT_PROJECT), name)


def _value(name: str, path: str | None) -> bytes:
    """The value of `name`. Blocks."""
    from getpass import getpass
    from pathlib import Path

    from orca.errors import InvalidRequestError
    from orca.model.secrets import SECRET_BYTES_MAX

    if path is not None:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise InvalidRequestError(f"{path} cannot be read: {error.strerror or error}") from error
    if sys.stdin.isatty():
        value = getpass(f"value of {name} (not shown): ").encode()
    else:
        value = sys.stdin.buffer.read(SECRET_BYTES_MAX + 2)
        value = value.removesuffix(b"\n").removesuffix(b"\r")
    if not value:
        raise InvalidRequestError(
            "the value is empty", hint="pipe it in, type it, or give --file; an empty file is taken as it is"
        )
    return value


def _read_values(path: str) -> dict[str, bytes]:
    """The variables of a `.env` file. Blocks. Raises InvalidRequestError naming file and line."""
    from orca.cli.files import read_environment
    from orca.errors import InvalidRequestError

    values = read_environment((path,), {})
    if not values:
        raise InvalidRequestError(f"{path} sets nothing; each line is NAME=value")
    return {name: value.encode() for name, value in values.items()}


def _show_list(reply: "SecretsReply", console: "Console", *, only_cluster: bool) -> None:
    from orca.cli.text import Column, clean
    from orca.model.ids import display_name

    if only_cluster:
        import msgspec

        reply = msgspec.structs.replace(reply, secrets=tuple(one for one in reply.secrets if one.id.startswith("/")))
    if console.as_json:
        console.data(reply)
        return
    from orca.cli.members import span

    columns = (
        Column("SECRET", shrinks_to=12),
        Column("CHANGED", is_number=True),
        Column("BY", shrinks_to=6),
        Column("USED BY", shrinks_to=10),
    )
    rows = [
        [
            clean(one.id.removeprefix("/")) + (" (cluster)" if one.id.startswith("/") else ""),
            f"{span(max(0, reply.observation.at_ms - one.updated_at_ms))} ago",
            clean(one.updated_by) or "-",
            ", ".join(map(display_name, one.users)) or "nobody",
        ]
        for one in reply.secrets
    ]
    console.table(columns, rows)
    if not rows:
        console.line("there are no secrets; `orca secrets set NAME` makes one", "dim")


def _show_change(reply: "SecretsChangeReply", console: "Console", word: str = "set") -> None:
    from orca.model.ids import display_name

    if console.as_json:
        console.data(reply)
        return
    for secret in reply.changed:
        console.line(f"{secret.removeprefix('/')} {word}", "green")
    for secret in reply.unchanged:
        console.line(f"{secret.removeprefix('/')} has that value already")
    if reply.changes:
        names = ", ".join(display_name(one.service) for one in reply.changes)
        console.line(f"new copies for {names}; `orca status` shows how far they are")
