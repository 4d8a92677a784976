"""Verbs that take service files: deploy and plan."""

from typing import TYPE_CHECKING, Any, Final

import asyncclick as click

from orca.cli.changes import carry_out, wait_options
from orca.cli.program import Session, argument, option, verb

if TYPE_CHECKING:
    from orca.client import NodeClient
    from orca.commands.changes import ChangeOutcome
    from orca.commands.deploy import DeployInput
    from orca.commands.progress import Report

EXIT_CHANGES: Final = 10
_FILES: Final = (
    "PATH is a service.toml, a Compose file, a directory with one of them or with services/<project>/service.toml, "
    "or - for standard input."
)


def _file_options() -> tuple[click.Parameter, ...]:
    return (
        argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path()),
        option("--project", metavar="NAME", help="Project of files that name none."),
        option("--profile", "profiles", multiple=True, metavar="NAME", help="Compose profile to use; repeatable."),
        option(
            "--env-file", "env_files", multiple=True, metavar="FILE", help="Variables for Compose files; repeatable."
        ),
        option("--prune", is_flag=True, help="Remove services of the named projects that are not in the files."),
    )


async def _load(client: "NodeClient", session: Session, values: dict[str, Any]) -> "DeployInput":
    """The files' content; asks the node for deployed services only when the files alone do not make sense."""
    from functools import partial

    import trio

    from orca.cli.files import FileOptions, load_files, read_environment
    from orca.errors import InvalidSpecError, OrcaError
    from orca.model.ids import ProjectName

    # Whoever writes to standard input or a pipe may take for ever, and Ctrl-C does not wait for it.
    in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
    options = FileOptions(
        project=ProjectName(values["project"]) if values["project"] else None,
        profiles=frozenset(values["profiles"]),
        environment=await in_thread(read_environment, values["env_files"], session.console.environ),
    )
    try:
        return await in_thread(load_files, values["paths"], options)
    except InvalidSpecError as error:
        problem = error
    if "-" in values["paths"]:
        raise problem  # standard input can be read once
    try:
        services = (await client.services()).services
        existing = [(await client.service(service.id)).spec for service in services]
    except OrcaError:
        raise problem from None  # no node to ask: what the files lack is the better answer
    return await in_thread(load_files, values["paths"], options, existing)


@verb(
    "deploy",
    *_file_options(),
    option("--note", default="", metavar="TEXT", help="Kept with the revision; see orca history."),
    option("--lock", "takes_lock", is_flag=True, help="Hold back the deploys of others until this one is over."),
    option("--under", "lock", default="", metavar="ID", help="The lock, from orca lock acquire, that is held for it."),
    *wait_options(),
    more=_FILES
    + " Images with a build section are built first. Waits until every copy is healthy, or says which is not, why, "
    "and its last lines, with exit code 1; the old revision keeps serving.",
)
async def deploy_command(
    session: Session,
    is_detached: bool,
    timeout_s: float | None,
    note: str,
    prune: bool,
    lock: str,
    **values: Any,
) -> int:
    """Put services."""
    from orca.commands.deploy import DeployOptions, deploy_services
    from orca.commands.locks import deploy_locked
    from orca.errors import InvalidRequestError

    takes_lock = values.pop("takes_lock")
    if takes_lock and (lock or is_detached):
        other = "--under" if lock else "--detach"
        raise InvalidRequestError(f"--lock and {other} contradict each other; give one of them")

    async def change(client: "NodeClient", report: "Report") -> "ChangeOutcome":
        given = await _load(client, session, values)
        options = DeployOptions(prune=prune, note=note, is_detached=is_detached, timeout_s=timeout_s, lock=lock)
        deploy = deploy_locked if takes_lock else deploy_services
        return await deploy(client, given, report, options)

    return await carry_out(session, change)


@verb(
    "plan",
    *_file_options(),
    option("--exit-code", "has_exit_code", is_flag=True, help="Exit with 10 when there are changes."),
    more=_FILES + " Exit code 0 means that the plan could be made.",
)
async def plan_command(session: Session, prune: bool, has_exit_code: bool, **values: Any) -> int:
    """Show changes."""
    from orca.cli import diff
    from orca.cli.progress import ProgressView
    from orca.commands.plan import has_changes, plan_services

    async with session.client() as client:
        given = await _load(client, session, values)
        reply = await plan_services(client, given, ProgressView(session.console), prune=prune)
    if session.console.as_json:
        session.console.data(reply)
    else:
        diff.plan(reply, session.console)
    return EXIT_CHANGES if has_exit_code and has_changes(reply) else 0
