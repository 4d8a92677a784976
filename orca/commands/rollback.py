"""`orca rollback`: go back to an earlier revision."""

from orca.client import NodeClient
from orca.commands.changes import ChangeOutcome, finish
from orca.commands.names import resolve_service
from orca.commands.progress import Report
from orca.commands.rollout import goals_of
from orca.model.ids import SpecRevision


async def rollback_service(
    client: NodeClient,
    name: str,
    report: Report,
    *,
    revision: SpecRevision | None = None,
    is_detached: bool = False,
    timeout_s: float | None = None,
) -> ChangeOutcome:
    """Bring the spec of `revision` (None: the one before) back as a new revision and wait until it is healthy.

    Raises NotFoundError and AmbiguousNameError for the name, and what the node refuses
    (a revision that it does not keep).
    """
    service = resolve_service(name, (await client.services()).services)
    reply = await client.rollback(service.id, revision)
    return await finish(
        client, reply.changes, goals_of(reply.changes), report, is_detached=is_detached, timeout_s=timeout_s
    )
