"""`orca promote`, `orca resume`: go on with a rollout that waits for a person; `orca pause`: let it wait."""

from orca.client import NodeClient
from orca.commands.changes import ChangeOutcome, finish
from orca.commands.names import resolve_service
from orca.commands.progress import Report
from orca.commands.rollout import goals_of


async def promote_service(
    client: NodeClient, name: str, report: Report, *, is_detached: bool = False, timeout_s: float | None = None
) -> ChangeOutcome:
    """Let the revision that stands beside the old one replace it, and wait until it has.

    Raises NotFoundError and AmbiguousNameError for the name, ConflictError when nothing waits to be promoted.
    """
    service = resolve_service(name, (await client.services()).services)
    reply = await client.promote(service.id)
    return await finish(
        client, reply.changes, goals_of(reply.changes), report, is_detached=is_detached, timeout_s=timeout_s
    )


async def resume_service(
    client: NodeClient, name: str, report: Report, *, is_detached: bool = False, timeout_s: float | None = None
) -> ChangeOutcome:
    """Go on with a rollout that was paused, and wait until it is over or waits for somebody again."""
    service = resolve_service(name, (await client.services()).services)
    reply = await client.resume(service.id)
    return await finish(
        client, reply.changes, goals_of(reply.changes), report, is_detached=is_detached, timeout_s=timeout_s
    )


async def pause_service(client: NodeClient, name: str, report: Report) -> ChangeOutcome:
    """Leave a rollout where it is: nothing of the new revision is started, nothing of the old one stopped.

    Raises ConflictError when there is no rollout under way.
    """
    service = resolve_service(name, (await client.services()).services)
    reply = await client.pause(service.id)
    return await finish(client, reply.changes, (), report)
