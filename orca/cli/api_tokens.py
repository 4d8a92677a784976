"""API tokens on the command line: what `orca token` does for `--api`."""

from typing import Final

from orca.cli.program import Session

API_ROLES: Final = ("admin", "deployer", "viewer")


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
