"""API tokens on the command line: what `orca token` does for `--api`."""

from typing import TYPE_CHECKING

from orca.cli.program import Session

if TYPE_CHECKING:
    from orca.model.access import ApiTokensReply

ROLES = ("admin", "deployer", "viewer")


async def create_api_token(
    session: Session, name: str, role: str, projects: tuple[str, ...], ttl_s: float | None
) -> None:
    """Make one and show it, this once."""
    from orca.commands import api_tokens
    from orca.model.ids import ProjectName
    from orca.model.trust import ApiRole

    console = session.console
    async with session.client() as client:
        made = await api_tokens.create_api_token(
            client,
            name,
            ApiRole(role),
            projects=tuple(ProjectName(project) for project in projects),
            ttl_s=None if ttl_s is None else max(1, round(ttl_s)),
        )
    if console.as_json:
        console.data(made)
        return
    console.note(f"API token {made.view.name}, a {role}; it is shown this once and kept nowhere:", "dim")
    console.line(made.token)


async def list_api_tokens(session: Session) -> "ApiTokensReply":
    """All of them, without their secrets."""
    from orca.commands import api_tokens

    async with session.client() as client:
        return await api_tokens.list_api_tokens(client)


async def revoke_api_token(session: Session, text: str) -> None:
    """End one; `text` is its name, its id, or itself."""
    from orca.commands import api_tokens

    async with session.client() as client:
        revoked = await api_tokens.revoke_api_token(client, text)
    if session.console.as_json:
        session.console.data(revoked)
    else:
        session.console.line(f"the API token {revoked.name} is revoked; what it opened ends within seconds")
