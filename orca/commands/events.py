"""`orca events`: what happened."""

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from orca.client import NodeClient
from orca.commands.names import OneCopy, resolve_target
from orca.model.event import NodeEvent
from orca.model.ids import AllocationId, ServiceId
from orca.model.units import WallMs
from orca.model.view import EventsReply

PAGE_EVENTS: Final = 1000
"""The most that a node gives at once."""


class Subject(NamedTuple):
    """What events are asked for: those of a service, of a copy, of the cluster, or all."""

    service: ServiceId | None
    allocation: AllocationId | None
    is_of_cluster: bool = False


async def list_events(
    client: NodeClient,
    *,
    name: str | None = None,
    limit: int = 50,
    since_ms: WallMs | None = None,
    is_of_cluster: bool = False,
) -> EventsReply:
    """The newest `limit` events, oldest first, of one service or copy when `name` is given.

    With `since_ms` only those that happened then or later, with `is_of_cluster` only what came by
    gossip. Raises NotFoundError and
    AmbiguousNameError for the name.
    """
    about = await resolve_filter(client, name)
    return await _newest(client, Subject(*about, is_of_cluster), limit, since_ms)


async def _newest(client: NodeClient, about: Subject, limit: int, since_ms: WallMs | None) -> EventsReply:
    """The newest `limit` events, fetched by pages from the newest back, as far as `since_ms`."""
    ask = partial(client.events, service=about.service, allocation=about.allocation, is_of_cluster=about.is_of_cluster)
    reply = await ask(limit=min(limit, PAGE_EVENTS))
    pages, missing = [reply.events], limit - len(reply.events)
    while missing > 0 and len(pages[-1]) == PAGE_EVENTS and not _is_older(pages[-1][0], since_ms):
        older = await ask(before=pages[-1][0].sequence, limit=min(missing, PAGE_EVENTS))
        pages.append(older.events)
        missing -= len(older.events)
    found = tuple(event for page in reversed(pages) for event in page if not _is_older(event, since_ms))
    return EventsReply(observation=reply.observation, events=found, last_sequence=reply.last_sequence)


def _is_older(event: NodeEvent, since_ms: WallMs | None) -> bool:
    return since_ms is not None and event.at_ms < since_ms


async def follow_events(
    client: NodeClient,
    show: Callable[[NodeEvent], None],
    *,
    name: str | None = None,
    limit: int = 10,
    since_ms: WallMs | None = None,
    is_of_cluster: bool = False,
) -> None:
    """Pass the newest `limit` events to `show`, then every new one, until cancelled or the node ends the stream."""
    service, allocation = await resolve_filter(client, name)
    past = await _newest(client, Subject(service, allocation, is_of_cluster), max(limit, 1), since_ms)
    for event in past.events if limit else ():
        show(event)
    async with client.follow_events(
        after=past.last_sequence, service=service, allocation=allocation, is_of_cluster=is_of_cluster
    ) as events:
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
