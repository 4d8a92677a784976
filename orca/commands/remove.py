"""`orca rm`: remove services."""

from collections.abc import Sequence
from typing import Final

import trio

from orca.client import NodeClient
from orca.commands.changes import ChangeOutcome, finish
from orca.commands.names import resolve_services
from orca.commands.progress import Report
from orca.commands.rollout import Goal, GoalKind
from orca.errors import NotFoundError
from orca.model.allocation import TERMINAL_PHASES
from orca.model.ids import ServiceId
from orca.model.view import ServiceChange

COPIES_END_S_MAX: Final = 60.0
_POLL_S: Final = 0.2


async def remove_services(
    client: NodeClient,
    names: Sequence[str],
    report: Report,
    *,
    is_detached: bool = False,
    timeout_s: float | None = None,
) -> ChangeOutcome:
    """Remove every named service and wait until it is gone with its copies.

    All names are resolved before the first change. Raises NotFoundError and
    AmbiguousNameError for names, and what the node refuses.
    """
    services = resolve_services(names, (await client.services()).services)
    changes: list[ServiceChange] = []
    for service in services:
        changes += (await client.remove(service.id)).changes
    goals = tuple(Goal(service=change.service, kind=GoalKind.GONE, revision=change.revision) for change in changes)
    outcome = await finish(client, tuple(changes), goals, report, is_detached=is_detached, timeout_s=timeout_s)
    if not is_detached:
        with trio.move_on_after(COPIES_END_S_MAX if timeout_s is None else timeout_s):
            for service in services:
                await _copies_ended(client, service.id)
    return outcome


async def _copies_ended(client: NodeClient, service: ServiceId) -> None:
    """Return once no copy of a removed service is left; draining may outlast the removal itself."""
    while True:
        try:
            copies = (await client.allocations(service)).allocations
        except NotFoundError:
            return
        if all(copy.phase in TERMINAL_PHASES for copy in copies):
            return
        await trio.sleep(_POLL_S)
