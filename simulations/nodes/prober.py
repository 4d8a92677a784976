"""Asks the copies of a node how they are, as `node.health.probes` does: the real monitor, on virtual time."""

from collections.abc import Callable
from typing import Final

from node.health.verdict import HealthMonitor, HealthTransition, ProbeKind
from orca.model.ids import AllocationId
from orca.model.spec import ServiceSpec
from orca.sources import Clock
from simulations.nodes.engine import Engine
from simulations.nodes.life import Life
from simulations.world import Chance, Timer

ANSWER_S: Final = 0.005


class Prober:
    """One monitor for each copy that is watched. `publish` gets what it finds."""

    def __init__(
        self,
        life: Life,
        engine: Engine,
        chance: Chance,
        clock: Clock,
        publish: Callable[[AllocationId, HealthTransition], None],
    ) -> None:
        self._life = life
        self._engine = engine
        self._chance = chance
        self._clock = clock
        self._publish = publish
        self._watched: dict[AllocationId, HealthMonitor] = {}
        self._timers: dict[AllocationId, Timer] = {}

    def start(self, allocation: AllocationId, spec: ServiceSpec) -> None:
        """Watch a run that starts now; an earlier watch ends. What is true at once is told in the next turn."""
        self.stop(allocation)
        monitor = HealthMonitor(spec.startup, spec.readiness, spec.liveness, self._clock.now())
        self._watched[allocation] = monitor
        self._life.after(0.0, lambda: self._begin(allocation, monitor))

    def stop(self, allocation: AllocationId) -> None:
        """Watch it no longer."""
        self._watched.pop(allocation, None)
        timer = self._timers.pop(allocation, None)
        if timer is not None:
            timer.cancel()

    def _begin(self, allocation: AllocationId, monitor: HealthMonitor) -> None:
        if self._is_watched(allocation, monitor):
            self._tell(allocation, monitor, monitor.on_started())
            self._turn(allocation, monitor)

    def _is_watched(self, allocation: AllocationId, monitor: HealthMonitor) -> bool:
        return self._watched.get(allocation) is monitor

    def _turn(self, allocation: AllocationId, monitor: HealthMonitor) -> None:
        """Ask what is due, and look again when there is more."""
        if not self._is_watched(allocation, monitor) or monitor.is_over():
            return
        for kind in monitor.due(self._clock.now()):
            self._ask(allocation, monitor, kind)
        pause_s = monitor.deadline() - self._clock.now()
        timer = self._timers.pop(allocation, None)
        if timer is not None:
            timer.cancel()
        if pause_s < float("inf"):
            self._timers[allocation] = self._life.after(max(0.0, pause_s), lambda: self._turn(allocation, monitor))

    def _ask(self, allocation: AllocationId, monitor: HealthMonitor, kind: ProbeKind) -> None:
        def answer() -> None:
            if not self._is_watched(allocation, monitor):
                return
            is_well, now = self._engine.answers(allocation), self._clock.now()
            detail = "it answers" if is_well else "no answer"
            found = monitor.on_result(kind, is_well, detail, now) or monitor.explain(now)
            self._tell(allocation, monitor, found)
            self._turn(allocation, monitor)

        self._life.after(self._chance.pause_s(ANSWER_S), answer)

    def _tell(self, allocation: AllocationId, monitor: HealthMonitor, found: list[HealthTransition]) -> None:
        monitor.check_invariants()
        for transition in found:
            if self._is_watched(allocation, monitor):
                self._publish(allocation, transition)
