"""`orca scale`: set the number of copies."""

from collections.abc import Sequence

from orca.client import NodeClient
from orca.commands.changes import ChangeOutcome, finish
from orca.commands.names import parse_scale, resolve_service
from orca.commands.progress import Report
from orca.commands.rollout import goals_of
from orca.errors import InvalidRequestError
from orca.model.ids import ServiceId
from orca.model.view import ServiceChange


async def scale_services(
    client: NodeClient,
    wishes: Sequence[str],
    report: Report,
    *,
    is_detached: bool = False,
    timeout_s: float | None = None,
) -> ChangeOutcome:
    """Set copies as `wishes` say (`web=3`) and wait until all are healthy.

    All wishes are read and resolved before the first change. Raises InvalidRequestError
    for a wish that cannot be read or a service wished for twice, NotFoundError and
    AmbiguousNameError for names, and what the node refuses.
    """
    parsed = [parse_scale(wish) for wish in wishes]
    services = (await client.services()).services
    wanted: dict[ServiceId, int] = {}
    for name, copies in parsed:
        service = resolve_service(name, services)
        if service.id in wanted:
            raise InvalidRequestError(f"{service.id} is named twice; give each service one number of copies")
        wanted[service.id] = copies
    changes: list[ServiceChange] = []
    for service_id, copies in wanted.items():
        changes += (await client.scale(service_id, copies)).changes
    return await finish(client, tuple(changes), goals_of(changes), report, is_detached=is_detached, timeout_s=timeout_s)
