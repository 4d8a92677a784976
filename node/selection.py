"""Which copies are meant: those of a service, one of them, or all that somebody may see. Pure."""

import msgspec

from orca.model.allocation import Allocation
from orca.model.ids import AllocationId, NodeId, ProjectName, ServiceId, split_service_id


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Copies of `service`, or the one `allocation`; both None: all. No `projects` means of all projects."""

    service: ServiceId | None = None
    allocation: AllocationId | None = None
    projects: tuple[ProjectName, ...] = ()

    def takes(self, copy: Allocation) -> bool:
        """Whether `copy` is meant."""
        return (
            (self.allocation is None or copy.id == self.allocation)
            and (self.service is None or copy.service == self.service)
            and self.sees(copy.service)
        )

    def sees(self, service: ServiceId) -> bool:
        """Whether copies of `service` may be meant at all."""
        return not self.projects or split_service_id(service)[0] in self.projects


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A copy and the node that it was given to. `is_started`: it was seen to run at some time."""

    allocation: AllocationId
    service: ServiceId
    slot: int
    node: NodeId
    is_started: bool
