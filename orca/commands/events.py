"""`orca events`: what happened."""

from collections.abc import Callable
from typing import Final

from orca.client import NodeClient
from orca.commands.names import OneCopy, resolve_target
from orca.model.event import NodeEvent
from orca.model.ids import AllocationId, ServiceId
from orca.model.units import WallMs
from orca.model.view import EventsReply

PAGE_EVENTS: Final = 1000


async def list_events(
    client: NodeClient, *, name: str | None = None, limit: int = 50, since_ms: WallMs | None = None
) -> EventsReply:
    """The newest `limit` events, oldest first, of one service or copy when `name` is given.

    With `since_ms` only those that happened then or later. Raises NotFoundError and
    AmbiguousNameError for the name.
    """
    service, allocation = await resolve_filter(client, name)
    reply = await client.events(limit=limit, service=service, allocation=allocation)
    if since_ms is None:
        return reply
    recent = tuple(event for event in reply.events if event.at_ms >= since_ms)
    return EventsReply(observation=reply.observation, events=recent, last_sequence=reply.last_sequence)


async def follow_events(
    client: NodeClient,
    show: Callable[[NodeEvent], None],
    *,
    name: str | None = None,
    limit: int = 10,
    since_ms: WallMs | None = None,
) -> None:
    """Pass the newest `limit` events to `show`, then every new one, until cancelled or the node ends the stream."""
    service, allocation = await resolve_filter(client, name)
    past = await client.events(limit=max(limit, 1), service=service, allocation=allocation)
    for event in past.events if limit else ():
        if since_ms is None or event.at_ms >= since_ms:
            show(event)
    async with client.follow_events(after=past.last_sequence, service=service, allocation=allocation) as events:
        async for event in events:
            show(event)


async def resolve_filter(client: NodeClient, name: str | None) -> tuple[ServiceId | None, AllocationId | None]:
    """What `name` narrows events or logs to: a service or one copy."""
    if name is None:
        return None, None
    if name.count("/") == 1 and "." not in name:
        # A removed service is no longer listed, but its history can still be asked for by its full name.
        return ServiceId(name), None
    target = resolve_target(name, (await client.services()).services)
    return (None, target.copy.id) if isinstance(target, OneCopy) else (target.service.id, None)
