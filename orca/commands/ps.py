"""`orca ps`: copies and why each is where it is."""

from collections.abc import Sequence

import msgspec

from orca.client.reads import NodeReads
from orca.commands.names import resolve_services
from orca.model.allocation import TERMINAL_PHASES, DesiredStatus
from orca.model.view import AllocationView, Observation


class CopyList(msgspec.Struct, frozen=True, kw_only=True):
    """Copies by service and slot. `hidden` counts those that ended and were left out."""

    observation: Observation
    allocations: tuple[AllocationView, ...]
    hidden: int = 0


async def list_copies(client: NodeReads, names: Sequence[str] = (), *, with_ended: bool = False) -> CopyList:
    """The copies of the named services (none: of all).

    Copies that were stopped on purpose are left out unless `with_ended`. Raises
    NotFoundError and AmbiguousNameError for names.
    """
    reply = await client.services()
    services = resolve_services(names, reply.services) if names else reply.services
    copies = [copy for service in services for copy in service.allocations]
    copies.sort(key=lambda copy: (copy.service, copy.slot, -copy.revision, -copy.created_at_ms))
    shown = [copy for copy in copies if with_ended or not _is_over(copy)]
    return CopyList(observation=reply.observation, allocations=tuple(shown), hidden=len(copies) - len(shown))


def _is_over(copy: AllocationView) -> bool:
    return copy.desired is DesiredStatus.STOPPED and copy.phase in TERMINAL_PHASES
