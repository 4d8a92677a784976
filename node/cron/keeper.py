"""The leader's duty of starting what is due, on trio."""

import math
from collections.abc import Callable
from typing import Final

import structlog
import trio

from consensus.driver import ReplicaDriver
from consensus.state.commands import PutServices, RemoveService, SpecEntry
from node.bell import Bell
from node.changes import raise_refusal, template_hash
from node.cron.decide import Decision, Statuses, decide, orphans, scheduled, wakes_at_ms
from orca.errors import OrcaError
from orca.model.ids import RequestId, ServiceId
from orca.sources import Clock

ACTOR: Final = "schedule"
PAUSE_S: Final = 0.2
RETRY_S: Final = 2.0
LOOK_S: Final = 20.0
"""The time of day may be set while we wait for a moment of it."""
_log = structlog.get_logger("orca.cron")


class CronKeeper:
    """Puts runs while this node leads. `changed` is rung when the state, or who leads, is another than it was."""

    def __init__(
        self, clock: Clock, replica: ReplicaDriver, statuses: Callable[[], Statuses], *, changed: Bell
    ) -> None:
        self._clock = clock
        self._replica = replica
        self._statuses = statuses
        self._changed = changed

    async def run(self) -> None:
        """Look when something has changed, and at each moment that a schedule names."""
        while True:
            heard = self._changed.rings
            wait_s = await self._look()
            await trio.sleep(PAUSE_S)
            await self._changed.wait(heard, max(0.0, wait_s - PAUSE_S))

    async def _look(self) -> float:
        """Do what is due; the seconds until time alone makes more of it."""
        if not self._replica.is_leader:
            return math.inf
        wait_s = await self._remove_orphans()
        for record in scheduled(self._replica.state):
            await trio.lowlevel.checkpoint()  # a calendar takes a millisecond or two
            now_ms = self._clock.wall()
            try:
                await self._carry_out(decide(self._replica.state, self._statuses(), record, now_ms))
                next_ms = wakes_at_ms(record, now_ms)
                due_s = math.inf if next_ms is None else (next_ms - self._clock.wall()) / 1000
            except ValueError as error:
                _log.warning("a schedule cannot be read here", service=record.id, reason=str(error))
                due_s = LOOK_S
            except OrcaError as error:
                # Another leader, no quorum, a lock: the next look decides anew, within the time that is left for it.
                _log.info("a run could not be decided now", service=record.id, reason=error.message)
                due_s = RETRY_S
            wait_s = min(wait_s, LOOK_S, max(due_s, PAUSE_S))
        return wait_s

    async def _remove_orphans(self) -> float:
        for run in orphans(self._replica.state):
            try:
                await self._remove(run)
            except OrcaError as error:
                _log.info("a run could not be removed now", service=run, reason=error.message)
                return RETRY_S
        return math.inf

    async def _remove(self, run: ServiceId) -> None:
        record = self._replica.state.services.get(run)
        if record is not None:
            # Its beginning is part of the identity: a service of that name may come again after a long time.
            identity = RequestId(f"cron/remove/{run}/{record.created_at_ms}")
            command = RemoveService(request_id=identity, at_ms=self._clock.wall(), actor=ACTOR, service=run)
            raise_refusal(await self._replica.propose(command))

    async def _carry_out(self, decision: Decision) -> None:
        for run in decision.removes:
            await self._remove(run)
        if decision.start is None:
            return
        lock = self._replica.state.locks.get(decision.start.project)
        put = PutServices(
            request_id=RequestId(f"cron/{decision.service}/{decision.instant_ms}"),
            at_ms=self._clock.wall(),
            actor=ACTOR,
            entries=(SpecEntry(spec=decision.start, template=template_hash(decision.start)),),
            note=f"run of {decision.service}",
            lock="" if lock is None else lock.id,
        )
        raise_refusal(await self._replica.propose(put))
