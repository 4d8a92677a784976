"""`orca promote`, `orca resume`: go on with a rollout that waits for a person; `orca pause`: let it wait."""

from collections.abc import Awaitable, Callable

from orca.client import NodeClient
from orca.commands.changes import ChangeOutcome, finish
from orca.commands.names import resolve_service
from orca.commands.progress import Report
from orca.commands.rollout import goals_of
from orca.model.ids import ServiceId
from orca.model.view import ChangeReply


async def promote_service(
    client: NodeClient, name: str, report: Report, *, is_detached: bool = False, timeout_s: float | None = None
) -> ChangeOutcome:
    """Let the revision that stands beside the old one replace it, and wait until it has.

    Raises NotFoundError and AmbiguousNameError for the name, ConflictError when nothing waits to be promoted.
    """
    return await _go_on(client, name, client.promote, report, is_detached=is_detached, timeout_s=timeout_s)


async def resume_service(
    client: NodeClient, name: str, report: Report, *, is_detached: bool = False, timeout_s: float | None = None
) -> ChangeOutcome:
    """Go on with a rollout that was paused, and wait until it is over or waits for somebody again."""
    return await _go_on(client, name, client.resume, report, is_detached=is_detached, timeout_s=timeout_s)


async def pause_service(client: NodeClient, name: str, report: Report) -> ChangeOutcome:
    """Leave a rollout where it is: nothing of the new revision is started, nothing of the old one stopped.

    Raises ConflictError when there is no rollout under way.
    """
    service = resolve_service(name, (await client.services()).services)
    return await finish(client, (await client.pause(service.id)).changes, (), report)


async def _go_on(
    client: NodeClient,
    name: str,
    change: Callable[[ServiceId], Awaitable[ChangeReply]],
    report: Report,
    *,
    is_detached: bool,
    timeout_s: float | None,
) -> ChangeOutcome:
    service = resolve_service(name, (await client.services()).services)
    changes = (await change(service.id)).changes
    return await finish(client, changes, goals_of(changes), report, is_detached=is_detached, timeout_s=timeout_s)
