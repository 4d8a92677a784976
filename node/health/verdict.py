"""From the results of probes to transitions: a pure machine for one run of one instance."""

import enum
from typing import Final, TypeAlias

import msgspec

from orca.model.spec import ProbeSpec
from orca.model.units import Instant

FIRST_RETRY_S: Final = 0.05
"""After the first unsuccessful quick question; doubles up to the interval."""
EXPLAIN_AFTER_S: Final = 1.0
"""What has not passed its probes for so long says why: a person may be waiting for it."""
_NEVER: Final = Instant(float("inf"))
_ROUNDING_S: Final = 1e-6


class ProbeKind(enum.Enum):
    """What a question is asked for."""

    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"


class BecameReady(msgspec.Struct, frozen=True, kw_only=True):
    """Traffic may come."""


class BecameUnready(msgspec.Struct, frozen=True, kw_only=True):
    """Traffic must go elsewhere, or cannot come yet; `reason` is the last answer in words."""

    reason: str


class LivenessFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The instance must be restarted; the monitor asks nothing any more."""

    reason: str


class StartupFailed(msgspec.Struct, frozen=True, kw_only=True):
    """It never came up and must be restarted; the monitor asks nothing any more."""

    reason: str


HealthTransition: TypeAlias = BecameReady | BecameUnready | LivenessFailed | StartupFailed


class ProbeState:
    """One probe: when to ask next, and how the last answers count.

    `is_passing` is None until the first verdict. `is_quick` probes are asked in short
    steps until their first success.
    """

    def __init__(self, spec: ProbeSpec, *, is_quick: bool) -> None:
        self.spec = spec
        self.is_passing: bool | None = None
        self.next_at: Instant = _NEVER
        self.is_asked = False
        self._asked_at: Instant = _NEVER
        self._is_quick = is_quick
        self._retry_s = FIRST_RETRY_S
        self._successes = 0
        self._failures = 0
        self._failure_counts_from: Instant = _NEVER

    def begin(self, now: Instant) -> None:
        """Start asking, `initial_delay_s` from `now`; what is not quick waits an interval at least."""
        first_s = self.spec.initial_delay_s if self._is_quick else max(self.spec.initial_delay_s, self.spec.interval_s)
        self.next_at = Instant(now + first_s)
        # A quick question may come long before a workload can answer: the first failure
        # that counts is the one at the end of the first interval.
        self._failure_counts_from = Instant(self.next_at + self.spec.interval_s)

    def end(self) -> None:
        """Ask nothing any more."""
        self.next_at = _NEVER
        self.is_asked = False

    def ask(self, now: Instant) -> None:
        """The question is under way."""
        self.is_asked = True
        self._asked_at = now

    def answer(self, *, ok: bool, now: Instant) -> bool | None:
        """Count one answer: True or False when the verdict changed to that, else None."""
        self.is_asked = False
        if ok:
            self._successes += 1
            self._failures = 0
        else:
            self._successes = 0
            if not self._is_quick or self._asked_at >= self._failure_counts_from - _ROUNDING_S:
                self._failures += 1
                self._failure_counts_from = Instant(self._asked_at + self.spec.interval_s)
        before = self.is_passing
        if ok and self._successes >= self.spec.success_threshold:
            self.is_passing = True
            self._is_quick = False
        elif not ok and self._failures >= self.spec.failure_threshold:
            self.is_passing = False
        self.next_at = self._next_at(now)
        return self.is_passing if self.is_passing is not before else None

    def _next_at(self, now: Instant) -> Instant:
        if not self._is_quick:
            return Instant(max(now, self._asked_at + self.spec.interval_s))
        wait_s = min(self._retry_s, self.spec.interval_s)
        self._retry_s = min(self._retry_s * 2, self.spec.interval_s)
        quick_at = Instant(now + wait_s)
        # The question that counts is asked when it counts, not up to an interval later.
        return self._failure_counts_from if now < self._failure_counts_from < quick_at else quick_at

    def check_invariants(self) -> None:
        """Raises AssertionError when the counts cannot be."""
        assert self._successes >= 0, "negative successes"
        assert self._failures >= 0, "negative failures"
        assert not (self._successes and self._failures), "successes and failures in a row at once"
        if self.is_passing is None:
            assert self._successes < self.spec.success_threshold, "enough successes and no verdict"


class HealthMonitor:
    """The health of one run of an instance that started at `started_at`.

    `on_started` must be called first and gives what is true at once. Then: `deadline`
    says when to call `due`, `due` what to ask, and every asked question must come back
    through `on_result`.
    """

    def __init__(
        self,
        startup: ProbeSpec | None,
        readiness: ProbeSpec | None,
        liveness: ProbeSpec | None,
        started_at: Instant,
    ) -> None:
        self.is_ready = False
        self.has_failed = False
        self.reason = ""
        self._explained = ""
        self._was_ever_ready = False
        self._started_at = started_at
        self._has_begun = False
        self._probes: dict[ProbeKind, ProbeState] = {}
        if startup is not None:
            self._probes[ProbeKind.STARTUP] = ProbeState(startup, is_quick=True)
        if readiness is not None:
            self._probes[ProbeKind.READINESS] = ProbeState(readiness, is_quick=True)
        if liveness is not None:
            self._probes[ProbeKind.LIVENESS] = ProbeState(liveness, is_quick=False)

    def on_started(self) -> list[HealthTransition]:
        """Begin; an instance that nobody asks about is ready at once."""
        assert not self._has_begun, "a monitor begins once"
        self._has_begun = True
        startup = self._probes.get(ProbeKind.STARTUP)
        if startup is None:
            return self._pass_startup(self._started_at)
        startup.begin(self._started_at)
        return []

    def due(self, now: Instant) -> tuple[ProbeKind, ...]:
        """The questions to ask now; each counts as asked until its `on_result`."""
        kinds = tuple(kind for kind, probe in self._probes.items() if not probe.is_asked and probe.next_at <= now)
        for kind in kinds:
            self._probes[kind].ask(now)
        return kinds

    def deadline(self) -> Instant:
        """When `due` has something next; infinite while all questions are under way or none is left."""
        return min((probe.next_at for probe in self._probes.values() if not probe.is_asked), default=_NEVER)

    def is_over(self) -> bool:
        """Whether it will never ask again and nothing is under way."""
        return self._has_begun and all(
            not probe.is_asked and probe.next_at == _NEVER for probe in self._probes.values()
        )

    def on_result(self, kind: ProbeKind, ok: bool, detail: str, now: Instant) -> list[HealthTransition]:
        """Count the answer to a question of `due`; what changed because of it.

        An answer that nobody waits for any more (the instance failed meanwhile) changes
        nothing.
        """
        probe = self._probes.get(kind)
        if probe is None or not probe.is_asked:
            return []
        changed = probe.answer(ok=ok, now=now)
        if not ok:
            self.reason = detail
        if changed is None:
            return []
        match kind:
            case ProbeKind.STARTUP:
                return self._pass_startup(now) if changed else self._fail(StartupFailed(reason=detail))
            case ProbeKind.READINESS:
                was_ready, self.is_ready = self.is_ready, changed
                if changed:
                    self._was_ever_ready = True
                    return [BecameReady()]
                return [BecameUnready(reason=detail)] if was_ready else []
            case ProbeKind.LIVENESS:
                return [] if changed else self._fail(LivenessFailed(reason=detail))

    def explain(self, now: Instant) -> list[HealthTransition]:
        """Why it has not become ready yet, each reason once: the verdict may be minutes away."""
        is_early = now - self._started_at < EXPLAIN_AFTER_S
        if is_early or self._was_ever_ready or self.has_failed or self.reason == self._explained:
            return []
        self._explained = self.reason
        return [BecameUnready(reason=self.reason)]

    def _pass_startup(self, now: Instant) -> list[HealthTransition]:
        startup = self._probes.get(ProbeKind.STARTUP)
        if startup is not None:
            startup.end()
        for kind, probe in self._probes.items():
            if kind is not ProbeKind.STARTUP:
                probe.begin(now)
        if ProbeKind.READINESS in self._probes:
            return []
        self.is_ready = self._was_ever_ready = True
        return [BecameReady()]

    def _fail(self, transition: StartupFailed | LivenessFailed) -> list[HealthTransition]:
        self.has_failed = True
        for probe in self._probes.values():
            probe.end()
        was_ready, self.is_ready = self.is_ready, False
        return [BecameUnready(reason=transition.reason), transition] if was_ready else [transition]

    def check_invariants(self) -> None:
        """Raises AssertionError when the machine is in a state that cannot be."""
        for probe in self._probes.values():
            probe.check_invariants()
        if self.has_failed:
            assert self.is_over(), "a failed monitor still asks"
            assert not self.is_ready, "a failed instance counts as ready"
        startup = self._probes.get(ProbeKind.STARTUP)
        if startup is not None and startup.is_passing is not True:
            assert not self.is_ready, "ready before startup passed"
            for kind, probe in self._probes.items():
                assert kind is ProbeKind.STARTUP or probe.next_at == _NEVER, f"{kind} asked before startup passed"
