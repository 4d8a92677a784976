"""`orca events`: what happened."""

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import msgspec

from orca.client import NodeClient
from orca.commands.names import OneCopy, resolve_target
from orca.model.event import NodeEvent
from orca.model.ids import AllocationId, ServiceId
from orca.model.units import WallMs
from orca.model.view import EventsReply, NodeSilence

PAGE_EVENTS: Final = 1000
"""The most that a node gives at once."""


class Subject(NamedTuple):
    """What events are asked for: those of a service, of a copy, of the cluster, or all.

    `is_here`: of the history of the node that is asked, and of no other.
    """

    service: ServiceId | None
    allocation: AllocationId | None
    is_of_cluster: bool = False
    is_here: bool = False


async def list_events(
    client: NodeClient,
    *,
    name: str | None = None,
    limit: int = 50,
    since_ms: WallMs | None = None,
    is_of_cluster: bool = False,
    is_here: bool = False,
) -> EventsReply:
    """The newest `limit` events, oldest first, of one service or copy when `name` is given.

    With `since_ms` only those that happened then or later, with `is_of_cluster` only what came by
    gossip; of all nodes, or with `is_here` of the one that is asked. Raises NotFoundError and AmbiguousNameError
    for the name.
    """
    about = await resolve_filter(client, name)
    return await _newest(client, Subject(*about, is_of_cluster, is_here), limit, since_ms)


async def _newest(client: NodeClient, about: Subject, limit: int, since_ms: WallMs | None) -> EventsReply:
    """The newest `limit` events, fetched by pages from the newest back, as far as `since_ms`."""
    ask = partial(
        client.events,
        service=about.service,
        allocation=about.allocation,
        is_of_cluster=about.is_of_cluster,
        is_everywhere=not about.is_here,
    )
    reply = last = await ask(limit=min(limit, PAGE_EVENTS))
    pages, missing = [reply.events], limit - len(reply.events)
    while missing > 0 and _has_more(last, about) and not (last.events and _is_older(last.events[0], since_ms)):
        size = min(missing, PAGE_EVENTS)
        if about.is_here:
            last = await ask(before=last.events[0].sequence, limit=size)
        else:
            last = await ask(earlier=last.earlier, limit=size)
        pages.append(last.events)
        missing -= len(last.events)
    found = tuple(event for page in reversed(pages) for event in page if not _is_older(event, since_ms))
    return msgspec.structs.replace(reply, events=found)


def _has_more(page: EventsReply, about: Subject) -> bool:
    """Whether there may be something before `page`."""
    return len(page.events) == PAGE_EVENTS if about.is_here else bool(page.earlier)


def _is_older(event: NodeEvent, since_ms: WallMs | None) -> bool:
    return since_ms is not None and event.at_ms < since_ms


async def follow_events(  # noqa: PLR0913 - what can be chosen
    client: NodeClient,
    show: Callable[[NodeEvent], None],
    *,
    name: str | None = None,
    limit: int = 10,
    since_ms: WallMs | None = None,
    is_of_cluster: bool = False,
    is_here: bool = False,
    told: Callable[[NodeSilence], None] = lambda _: None,
) -> None:
    """Pass the newest `limit` events to `show`, then every new one, until cancelled or the node ends the stream.

    `told` hears of each node that does not answer.
    """
    about = Subject(*await resolve_filter(client, name), is_of_cluster, is_here)
    past = await _newest(client, about, max(limit, 1), since_ms)
    for silence in past.silent:
        told(silence)
    for event in past.events if limit else ():
        show(event)
    async with client.follow_events(
        after=past.last_sequence if is_here else None,
        service=about.service,
        allocation=about.allocation,
        is_of_cluster=is_of_cluster,
        later=None if is_here else past.later,
        told=told,
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
