"""When a figure has gone too far, and when that is over. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

from orca.model.event import Severity
from orca.model.units import Instant

GONE_S: Final = 60.0
"""What was not measured for so long is settled: its copy is gone, or its service is asked no more."""


class FigureRule(msgspec.Struct, frozen=True, kw_only=True):
    """When `figure` goes too far: from `warn` on, badly from `error` on, when that lasts `hold_s`.

    Below `clear` for `calm_s` it is over. With `is_low` it is the other way round: too little is too far.
    """

    figure: str
    warn: float
    clear: float
    error: float | None = None
    hold_s: float = 60.0
    calm_s: float = 60.0
    is_low: bool = False


FIGURE_RULES: Final = (
    FigureRule(figure="memory_share", warn=0.9, clear=0.8),
    FigureRule(figure="node_memory_share", warn=0.92, error=0.97, clear=0.87),
    FigureRule(figure="disk_free_share", warn=0.10, error=0.03, clear=0.13, is_low=True),
    FigureRule(figure="inode_free_share", warn=0.10, error=0.03, clear=0.13, is_low=True),
    FigureRule(figure="store_share", warn=0.75, error=0.9, clear=0.65),
    FigureRule(figure="error_share", warn=0.05, error=0.25, clear=0.02, hold_s=20.0),
    FigureRule(figure="latency_p95_s", warn=2.5, error=10.0, clear=1.0, hold_s=60.0),
    FigureRule(figure="queue_share", warn=0.8, error=1.0, clear=0.5, hold_s=5.0, calm_s=30.0),
    FigureRule(figure="clock_offset_s", warn=2.0, error=60.0, clear=1.0, hold_s=0.0, calm_s=0.0),
    FigureRule(figure="certificate_left_share", warn=0.25, error=0.05, clear=0.3, hold_s=0.0, calm_s=0.0, is_low=True),
)
"""Shares are of 1. Those of disks and certificates are what `orca doctor` goes by."""


class Exceeded(msgspec.Struct, frozen=True, kw_only=True):
    """The figure of `subject` has gone too far, or farther."""

    figure: str
    subject: str
    value: float
    severity: Severity


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """It is over. `value` None: nobody measures it any more."""

    figure: str
    subject: str
    value: float | None


class OpenCase(msgspec.Struct, frozen=True, kw_only=True):
    """What was told and is not over, to be kept over a restart."""

    figure: str
    subject: str
    severity: Severity


class _Case:
    """One subject that is, or was lately, on the wrong side."""

    __slots__ = ("bad_since", "calm_since", "error_since", "level", "seen_at")

    def __init__(self, now: Instant) -> None:
        self.bad_since: Instant | None = None
        self.error_since: Instant | None = None
        self.calm_since: Instant | None = None
        self.level: Severity | None = None
        self.seen_at = now


class Watch:
    """All rules. Subjects on the right side cost a comparison each."""

    def __init__(self, rules: tuple[FigureRule, ...] = FIGURE_RULES) -> None:
        self._rules = {one.figure: one for one in rules}
        self._cases: dict[str, dict[str, _Case]] = {one.figure: {} for one in rules}

    def restore(self, cases: tuple[OpenCase, ...], now: Instant) -> None:
        """Go on with what was open before a restart."""
        for one in cases:
            if one.figure in self._cases:
                case = self._cases[one.figure][one.subject] = _Case(now)
                case.level = one.severity

    @property
    def open(self) -> tuple[OpenCase, ...]:
        """What was told and is not over."""
        return tuple(
            OpenCase(figure=figure, subject=subject, severity=case.level)
            for figure, cases in self._cases.items()
            for subject, case in cases.items()
            if case.level is not None
        )

    def step(self, figures: Mapping[str, Mapping[str, float]], now: Instant) -> list[Exceeded | Settled]:
        """Look at what was measured: by figure, by subject."""
        changes: list[Exceeded | Settled] = []
        for figure, rule in self._rules.items():
            values, cases = figures.get(figure, {}), self._cases[figure]
            # As if high were bad: one comparison decides for almost all.
            sign = -1.0 if rule.is_low else 1.0
            warn = sign * rule.warn
            for subject, value in values.items():
                if sign * value < warn and subject not in cases:
                    continue
                case = cases.get(subject)
                if case is None:
                    case = cases[subject] = _Case(now)
                case.seen_at = now
                changes += _look(rule, case, subject, value, sign, now)
            if cases:
                changes += _forget(rule, cases, now)
        return changes


def _look(
    rule: FigureRule, case: _Case, subject: str, value: float, sign: float, now: Instant
) -> list[Exceeded | Settled]:
    height = sign * value
    case.bad_since = _since(case.bad_since, now, holds=height >= sign * rule.warn)
    is_error = rule.error is not None and height >= sign * rule.error
    case.error_since = _since(case.error_since, now, holds=is_error)
    case.calm_since = _since(case.calm_since, now, holds=height < sign * rule.clear)
    reached: Severity | None = None
    if case.bad_since is not None and now - case.bad_since >= rule.hold_s:
        reached = Severity.WARNING
    if case.error_since is not None and now - case.error_since >= rule.hold_s:
        reached = Severity.ERROR
    if reached is not None and (case.level is None or (case.level, reached) == (Severity.WARNING, Severity.ERROR)):
        case.level = reached
        return [Exceeded(figure=rule.figure, subject=subject, value=value, severity=reached)]
    if case.level is not None and case.calm_since is not None and now - case.calm_since >= rule.calm_s:
        case.level = None
        return [Settled(figure=rule.figure, subject=subject, value=value)]
    return []


def _since(before: Instant | None, now: Instant, *, holds: bool) -> Instant | None:
    if not holds:
        return None
    return now if before is None else before


def _forget(rule: FigureRule, cases: dict[str, _Case], now: Instant) -> list[Exceeded | Settled]:
    """Drop what is well, and settle what is gone."""
    changes: list[Exceeded | Settled] = []
    for subject, case in list(cases.items()):
        if now - case.seen_at >= GONE_S:
            del cases[subject]
            if case.level is not None:
                changes.append(Settled(figure=rule.figure, subject=subject, value=None))
        elif case.level is None and case.bad_since is None:
            del cases[subject]
    return changes
