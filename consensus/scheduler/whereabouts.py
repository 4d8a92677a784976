"""Whether a copy may stay where it is.

A node that is not heard of takes its copies with it. For `replace_after` they count as there but not as healthy, so
that a restart of the daemon moves nothing; then they are *lost*: they count no more, and others are placed. They
stay wanted, though. The node goes on with them if it lives, and when it is heard again they are copies as any
other: of two in one slot the healthy one stays, of two healthy ones the newer, and the other stops.

A leader that never heard of a node cannot say since when it is silent, so after a power cut of all it waits
`UNHEARD_MS` for each of them before it believes any to be gone.

Copies *leave* a node that is drained, or that does not fit any more because labels or the placement changed: they
are replaced like outdated ones, start-first. Where a new copy cannot run beside the old one, the old one goes only
when another node could take the new one. A job is left to end. After the deadline of a drain all of them are *ousted*.
"""

import enum
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.feasible import misplacement
from consensus.scheduler.fleet import Fleet
from consensus.scheduler.site import Site
from consensus.state.cluster import ClusterState, ServiceRecord
from orca.model.allocation import TERMINAL_PHASES, Allocation, AllocationStatus
from orca.model.ids import AllocationId, NodeId
from orca.model.units import WallMs

UNHEARD_MS: Final = 30_000


class Standing(enum.Enum):
    """What a copy is to the node that has it."""

    THERE = "there"
    SILENT = "silent"
    LOST = "lost"
    LEAVING = "leaving"
    OUSTED = "ousted"


class Whereabouts(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes at one moment. `away`: since when those are silent that are not heard of."""

    now_ms: WallMs
    fleet: Fleet
    away: Mapping[NodeId, WallMs] = {}

    @property
    def sites(self) -> Mapping[NodeId, Site]:
        """The living nodes."""
        return self.fleet.by_id

    def is_calm(self, record: ServiceRecord) -> bool:
        """Whether every copy may stay, whoever has it: so it is mostly."""
        wanted = record.spec.placement
        asks = wanted.labels or wanted.constraints or wanted.node is not None or wanted.spread is not None
        return not (asks or self.away or self.fleet.is_draining)

    def lost_at_ms(self, record: ServiceRecord, one: Allocation) -> WallMs | None:
        """When a copy is lost; None: not, as things are."""
        since, after_s = self.away.get(one.node), record.spec.disconnect.replace_after_s
        if since is None or after_s is None:
            return None
        return WallMs(since + math.ceil(after_s * 1000))

    def ousted_at_ms(self, one: Allocation) -> WallMs | None:
        """When a drain waits no longer for a copy; None: not, as things are."""
        site = self.sites.get(one.node)
        if site is None or not site.is_draining or site.record is None or site.record.drain is None:
            return None
        return site.record.drain.deadline_at_ms

    def complaint(self, record: ServiceRecord, one: Allocation) -> str:
        """Why a copy is to leave its living node; empty when it is not."""
        site = self.sites.get(one.node)
        if site is None:
            return ""
        return "the node is drained" if site.is_draining else misplacement(record.spec, site)

    def standing(self, record: ServiceRecord, one: Allocation, *, may_go: Callable[[], bool]) -> Standing:
        """What `one` is; `may_go` says whether it can be replaced, for one that cannot run beside the new one."""
        if one.node in self.away:
            at_ms = self.lost_at_ms(record, one)
            return Standing.LOST if at_ms is not None and self.now_ms >= at_ms else Standing.SILENT
        if not self.complaint(record, one):
            return Standing.THERE
        at_ms = self.ousted_at_ms(one)
        if at_ms is not None and self.now_ms >= at_ms:
            return Standing.OUSTED
        if record.spec.is_job or not may_go():
            return Standing.THERE
        return Standing.LEAVING

    def wakes(self, record: ServiceRecord, copies: Iterator[Allocation]) -> Iterator[WallMs]:
        """When time alone makes something else of a copy."""
        for one in copies:
            for at_ms in (self.lost_at_ms(record, one), self.ousted_at_ms(one)):
                if at_ms is not None and at_ms > self.now_ms:
                    yield at_ms


def away_nodes(state: ClusterState, beliefs: Beliefs, leads_since_ms: WallMs) -> dict[NodeId, WallMs]:
    """Nodes of the cluster that are not heard of, and since when."""
    unheard = WallMs(leads_since_ms + UNHEARD_MS)
    silent = state.nodes.keys() - beliefs.nodes.keys()
    return {node: beliefs.departed.get(node, unheard) for node in sorted(silent)}


class HeardStatuses:
    """Statuses as of now: what a silent node said of a copy that then ran is nothing to go by."""

    def __init__(self, statuses: Mapping[AllocationId, AllocationStatus], away: Mapping[NodeId, WallMs]) -> None:
        self._statuses = statuses
        self._away = away

    def get(self, name: AllocationId) -> AllocationStatus | None:
        """The status, unless its node is silent and the copy had not ended."""
        status = self._statuses.get(name)
        if status is None or (status.node in self._away and status.phase not in TERMINAL_PHASES):
            return None
        return status
