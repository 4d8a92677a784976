"""Which rules there are: when each fires and when it is over. Pure."""

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from orca.model.alert import AlertRule
from orca.model.event import EventKind, Severity

_MINUTE: Final = 60


class SubjectKind(enum.Enum):
    """By what a rule groups: the service, the node whose event it is, or the member that gossip names."""

    SERVICE = "service"
    NODE = "node"
    MEMBER = "member"


class RuleSpec(msgspec.Struct, frozen=True, kw_only=True):
    """When a rule fires.

    It takes `count` events of `raised_by` about one copy (or member) within `window_s`, not cleared for `hold_s`.
    `clears_copy` takes back what was counted for that copy, `clears` all of the subject. With `calm_s` it is over when
    for so long none came. With `figures` it takes events of these, which say how bad it is; `severity` is the least.
    """

    rule: AlertRule
    severity: Severity
    subject: SubjectKind
    raised_by: frozenset[EventKind]
    clears: frozenset[EventKind] = frozenset()
    clears_copy: frozenset[EventKind] = frozenset()
    count: int = 1
    window_s: int = 10 * _MINUTE
    hold_s: int = 0
    calm_s: int | None = None
    is_out_of_memory: bool | None = None
    figures: frozenset[str] = frozenset()


_K = EventKind
_GONE: Final = frozenset({_K.SERVICE_REMOVED, _K.SERVICE_STOPPED})
_MENDED: Final = _GONE | {_K.ROLLOUT_COMPLETED}
_COPY_GONE: Final = frozenset({_K.ALLOCATION_STOPPED, _K.ALLOCATION_FAILED, _K.ALLOCATION_COMPLETED})
_SERVICE, _NODE, _MEMBER = SubjectKind.SERVICE, SubjectKind.NODE, SubjectKind.MEMBER

_EVENT_RULES: Final = (
    RuleSpec(
        rule=AlertRule.OUT_OF_MEMORY,
        severity=Severity.ERROR,
        subject=_SERVICE,
        raised_by=frozenset({_K.ALLOCATION_EXITED}),
        clears=_MENDED,
        clears_copy=frozenset({_K.ALLOCATION_STOPPED}),
        calm_s=30 * _MINUTE,
        is_out_of_memory=True,
    ),
    RuleSpec(
        rule=AlertRule.CRASH_LOOP,
        severity=Severity.ERROR,
        subject=_SERVICE,
        raised_by=frozenset({_K.ALLOCATION_RESTARTING}),
        clears=_MENDED,
        clears_copy=_COPY_GONE,
        count=3,
        calm_s=10 * _MINUTE,
        is_out_of_memory=False,
    ),
    RuleSpec(
        rule=AlertRule.START_FAILED,
        severity=Severity.ERROR,
        subject=_SERVICE,
        raised_by=frozenset({_K.ALLOCATION_START_FAILED}),
        clears=_MENDED,
        clears_copy=_COPY_GONE | {_K.ALLOCATION_STARTED, _K.ALLOCATION_READY},
        count=2,
        window_s=15 * _MINUTE,
    ),
    RuleSpec(
        rule=AlertRule.UNHEALTHY,
        severity=Severity.WARNING,
        subject=_SERVICE,
        raised_by=frozenset({_K.ALLOCATION_UNHEALTHY}),
        clears=_GONE,
        clears_copy=_COPY_GONE | {_K.ALLOCATION_READY},
        hold_s=30,
        window_s=60 * _MINUTE,
    ),
    RuleSpec(
        rule=AlertRule.ROLLOUT_FAILED,
        severity=Severity.ERROR,
        subject=_SERVICE,
        raised_by=frozenset({_K.ROLLOUT_FAILED}),
        clears=_MENDED | {_K.SERVICE_DEPLOYED, _K.SERVICE_ROLLED_BACK},
    ),
    RuleSpec(
        rule=AlertRule.COPY_FAILED,
        severity=Severity.ERROR,
        subject=_SERVICE,
        raised_by=frozenset({_K.ALLOCATION_FAILED}),
        clears=_MENDED | {_K.SERVICE_DEPLOYED, _K.SERVICE_RESTARTED},
    ),
    RuleSpec(
        rule=AlertRule.RUNTIME_DOWN,
        severity=Severity.ERROR,
        subject=_NODE,
        raised_by=frozenset({_K.RUNTIME_DOWN}),
        clears=frozenset({_K.RUNTIME_UP}),
        hold_s=5,
    ),
    RuleSpec(
        rule=AlertRule.STORE_FULL,
        severity=Severity.ERROR,
        subject=_NODE,
        raised_by=frozenset({_K.STORE_FULL}),
        calm_s=10 * _MINUTE,
    ),
    RuleSpec(
        rule=AlertRule.NODE_FAILED,
        severity=Severity.ERROR,
        subject=_MEMBER,
        raised_by=frozenset({_K.MEMBER_FAILED}),
        clears=frozenset({_K.MEMBER_JOINED, _K.MEMBER_LEFT}),
    ),
    RuleSpec(
        rule=AlertRule.NODE_FLAPPING,
        severity=Severity.WARNING,
        subject=_MEMBER,
        raised_by=frozenset({_K.MEMBER_FAILED}),
        count=3,
        window_s=30 * _MINUTE,
        calm_s=30 * _MINUTE,
    ),
)


def _of_figures(rule: AlertRule, subject: SubjectKind, *figures: str) -> RuleSpec:
    """A rule whose thresholds, hold and hysteresis are those of `node.figures.thresholds`."""
    return RuleSpec(
        rule=rule,
        severity=Severity.WARNING,
        subject=subject,
        raised_by=frozenset({_K.FIGURE_EXCEEDED}),
        clears=_GONE if subject is SubjectKind.SERVICE else frozenset(),
        clears_copy=frozenset({_K.FIGURE_SETTLED}) | (_COPY_GONE if subject is SubjectKind.SERVICE else frozenset()),
        window_s=7 * 86_400,
        figures=frozenset(figures),
    )


_FIGURE_RULES: Final = (
    _of_figures(AlertRule.MEMORY_PRESSURE, _SERVICE, "memory_share"),
    _of_figures(AlertRule.ERROR_SURGE, _SERVICE, "error_share"),
    _of_figures(AlertRule.SLOW_ANSWERS, _SERVICE, "latency_p95_s"),
    _of_figures(AlertRule.QUEUE_FULL, _SERVICE, "queue_share"),
    _of_figures(AlertRule.NODE_MEMORY, _NODE, "node_memory_share"),
    _of_figures(AlertRule.DISK_PRESSURE, _NODE, "disk_free_share", "inode_free_share"),
    _of_figures(AlertRule.STORE_PRESSURE, _NODE, "store_share"),
    _of_figures(AlertRule.CLOCK_SKEW, _NODE, "clock_offset_s"),
    _of_figures(AlertRule.CERTIFICATE_ENDS, _NODE, "certificate_left_share"),
)
RULES: Final = (*_EVENT_RULES, *_FIGURE_RULES)
"""In the order in which they are looked at."""
INHIBITED_BY: Final[Mapping[AlertRule, tuple[AlertRule, ...]]] = {
    AlertRule.UNHEALTHY: (AlertRule.CRASH_LOOP, AlertRule.OUT_OF_MEMORY),
    AlertRule.MEMORY_PRESSURE: (AlertRule.OUT_OF_MEMORY,),
    AlertRule.ERROR_SURGE: (AlertRule.CRASH_LOOP, AlertRule.OUT_OF_MEMORY, AlertRule.START_FAILED),
    AlertRule.STORE_PRESSURE: (AlertRule.STORE_FULL,),
}
"""What is not shown of a subject while one of those fires for it: it comes from the same.

A node that failed stands for more, for all that only happened there (`_stand_ins`)."""
