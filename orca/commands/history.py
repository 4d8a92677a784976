"""`orca history`: the revisions of a service."""

from orca.client.reads import NodeReads
from orca.commands.names import resolve_service
from orca.model.view import HistoryReply


async def service_history(client: NodeReads, name: str) -> HistoryReply:
    """Revisions, newest first. Raises NotFoundError and AmbiguousNameError."""
    service = resolve_service(name, (await client.services()).services)
    return await client.history(service.id)
