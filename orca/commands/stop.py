"""`orca stop`: end all copies, keep the service."""

from collections.abc import Sequence

from orca.client import NodeClient
from orca.commands.changes import ChangeOutcome, finish
from orca.commands.names import resolve_services
from orca.commands.progress import Report
from orca.commands.rollout import Goal, GoalKind
from orca.model.view import ServiceChange


async def stop_services(
    client: NodeClient,
    names: Sequence[str],
    report: Report,
    *,
    is_detached: bool = False,
    timeout_s: float | None = None,
) -> ChangeOutcome:
    """Stop every named service and wait until no copy runs.

    All names are resolved before the first change. Raises NotFoundError and
    AmbiguousNameError for names, and what the node refuses.
    """
    services = resolve_services(names, (await client.services()).services)
    changes: list[ServiceChange] = []
    for service in services:
        changes += (await client.stop(service.id)).changes
    goals = tuple(Goal(service=change.service, kind=GoalKind.STOPPED, revision=change.revision) for change in changes)
    return await finish(client, tuple(changes), goals, report, is_detached=is_detached, timeout_s=timeout_s)
