"""The copies of a node, the moment of the present step, and the orders given in it."""

from typing import Any

import msgspec

from node.reconciler.copy import Copy
from node.reconciler.events import (
    Action,
    Effect,
    Happened,
    RunAction,
    StartProbes,
    StatusChanged,
    StatusDropped,
    StopProbes,
)
from node.reconciler.lanes import Lanes
from orca.model.allocation import Endpoint
from orca.model.event import EventKind, Severity
from orca.model.ids import AllocationId
from orca.model.units import Instant, WallMs

ORPHAN_STOP_TIMEOUT_S = 10.0


class Ledger:
    """Keeps the books: every change of a copy that others see goes through here."""

    def __init__(self, starts_max: int) -> None:
        self.lanes = Lanes(starts_max)
        self.copies: dict[AllocationId, Copy] = {}
        self.now = Instant(0.0)
        self.wall = WallMs(0)
        self.step = 0
        self.effects: list[Effect] = []

    def begin(self, now: Instant, wall: WallMs) -> None:
        """A new step starts."""
        self.now, self.wall, self.effects = now, wall, []
        self.step += 1

    def order(self, copy: Copy, action: Action) -> None:
        """Have `action` done to `copy`; it must have none in flight."""
        assert copy.action is None, f"{copy.name}: {action} is ordered while {copy.action} is in flight"
        self.lanes.began(action)
        copy.action = action
        copy.next_try_at = None
        timeout_s = ORPHAN_STOP_TIMEOUT_S
        if copy.assignment is not None:
            spec = copy.assignment.spec
            timeout_s = spec.drain_timeout_s if action is Action.DRAIN else spec.stop_timeout_s
            if copy.is_barred and spec.singleton is not None:
                timeout_s = min(timeout_s, spec.singleton.stop_s)
        self.effects.append(
            RunAction(
                allocation=copy.id, kind=copy.kind, action=action, assignment=copy.assignment, timeout_s=timeout_s
            )
        )

    def start_probes(self, copy: Copy, endpoints: tuple[Endpoint, ...]) -> None:
        """Begin asking `copy` how it is."""
        assert copy.assignment is not None, f"{copy.id}: an orphan is not probed"
        self.stop_probes(copy)
        copy.has_probes = True
        self.effects.append(StartProbes(allocation=copy.id, spec=copy.assignment.spec, endpoints=endpoints))

    def stop_probes(self, copy: Copy) -> None:
        """Stop asking, if anybody does."""
        if copy.has_probes:
            copy.has_probes = False
            self.effects.append(StopProbes(allocation=copy.id))

    def publish(self, copy: Copy) -> None:
        """Let others know the status of `copy` as it is."""
        assert copy.status is not None, f"{copy.id}: an orphan has no status"
        self.effects.append(StatusChanged(status=copy.status))

    def drop(self, copy: Copy) -> None:
        """The cluster has forgotten `copy`; what is left of it is an orphan."""
        copy.assignment = None
        copy.status = None
        copy.next_try_at = None
        self.effects.append(StatusDropped(allocation=copy.id))

    def happened(
        self,
        copy: Copy,
        kind: EventKind,
        message: str,
        severity: Severity = Severity.INFO,
        exit_code: int | None = None,
    ) -> None:
        """Write a line into the history of `copy`."""
        self.effects.append(
            Happened(kind=kind, message=message, assignment=copy.assignment, severity=severity, exit_code=exit_code)
        )

    def report(self, copy: Copy, **changes: Any) -> None:
        """Publish the status of `copy` with `changes`, if anything in it is new."""
        if copy.status is None:
            return
        changed = msgspec.structs.replace(copy.status, **changes)
        if changed == copy.status and copy.status.version > 0:
            return
        moved = changed.phase is not copy.status.phase or changed.is_ready is not copy.status.is_ready
        copy.status = msgspec.structs.replace(
            changed,
            version=copy.status.version + 1,
            since_ms=self.wall if moved else copy.status.since_ms,
        )
        self.publish(copy)
