"""Alerts: what is wrong now or was lately, the evidence, and what it may come from."""

import enum

import msgspec

from orca.model.event import Severity
from orca.model.ids import NodeId, ServiceId
from orca.model.units import WallMs
from orca.model.view import NodeSilence, Observation


class AlertRule(enum.Enum):
    """Which rule found it; the name is stable."""

    CRASH_LOOP = "crash-loop"
    OUT_OF_MEMORY = "out-of-memory"
    START_FAILED = "start-failed"
    UNHEALTHY = "unhealthy"
    ROLLOUT_FAILED = "rollout-failed"
    COPY_FAILED = "copy-failed"
    RUNTIME_DOWN = "runtime-down"
    STORE_FULL = "store-full"
    NODE_FAILED = "node-failed"
    NODE_FLAPPING = "node-flapping"


class AlertState(enum.Enum):
    """Whether it still holds."""

    FIRING = "firing"
    RESOLVED = "resolved"


class PossibleCause(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate: what it would be, the fact that speaks for it, and the command that checks or mends it."""

    cause: str
    because: str
    command: str


class AlertView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One alert. `id` is the rule and the subject, so what happens again to the same subject is the same alert.

    `facts` are sentences that the events support; `quotes` are words of events, without control characters and
    without what looks like a secret. `causes` are possible ones, the likeliest first.
    """

    id: str
    rule: AlertRule
    severity: Severity
    state: AlertState
    subject: str
    since_ms: WallMs
    last_ms: WallMs
    facts: tuple[str, ...]
    quotes: tuple[str, ...] = ()
    causes: tuple[PossibleCause, ...] = ()
    service: ServiceId | None = None
    node: NodeId | None = None
    resolved_at_ms: WallMs | None = None


class AlertsReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Alerts, firing ones first. `looked_from_ms`: older events were not looked at; None: all that are kept were."""

    observation: Observation
    alerts: tuple[AlertView, ...]
    looked_from_ms: WallMs | None = None
    silent: tuple[NodeSilence, ...] = ()
