"""Alerts: what is wrong now or was lately, the evidence, what it may come from, and what people said about it."""

import enum

import msgspec

from orca.model.event import Severity
from orca.model.ids import ChannelName, NodeId, ProjectName, RequestId, ServiceId, SilenceId
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
    MEMORY_PRESSURE = "memory-pressure"
    ERROR_SURGE = "error-surge"
    SLOW_ANSWERS = "slow-answers"
    QUEUE_FULL = "queue-full"
    NODE_MEMORY = "node-memory"
    DISK_PRESSURE = "disk-pressure"
    STORE_PRESSURE = "store-pressure"
    CLOCK_SKEW = "clock-skew"
    CERTIFICATE_ENDS = "certificate-ends"


class AlertState(enum.Enum):
    """Whether it still holds."""

    FIRING = "firing"
    RESOLVED = "resolved"


class PossibleCause(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate: what it would be, the fact that speaks for it, and the command that checks or mends it."""

    cause: str
    because: str
    command: str


class AlertDeed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody said about an alert; it holds until `ends_at_ms`, None: until the alert is over."""

    by: str
    at_ms: WallMs
    reason: str = ""
    ends_at_ms: WallMs | None = None


class SilenceView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Until `ends_at_ms` nobody is told of alerts that all its given fields fit; one that is not given fits any."""

    id: SilenceId
    by: str
    since_ms: WallMs
    ends_at_ms: WallMs
    reason: str
    service: ServiceId | None = None
    project: ProjectName | None = None
    node: NodeId | None = None
    node_name: str = ""
    rule: str = ""


class AlertView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One alert. `id` is the rule and the subject, so what happens again to the same subject is the same alert.

    `facts` are sentences that the events support; `quotes` are words of events, without control characters and
    without what looks like a secret. `causes` are possible ones, the likeliest first. `nodes` are where it happened,
    of a member the member itself. `stands_for`: alerts that are not shown, because they come from this one.
    `resolved_by`: somebody said that it is over, and nothing has happened since. `told`:
    channels that know that it fires.
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
    nodes: tuple[NodeId, ...] = ()
    stands_for: tuple[str, ...] = ()
    acknowledged: AlertDeed | None = None
    resolved_by: AlertDeed | None = None
    silence: SilenceView | None = None
    told: tuple[ChannelName, ...] = ()


class AlertsReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Alerts, firing ones first. `looked_from_ms`: older events were not looked at; None: all that are kept were."""

    observation: Observation
    alerts: tuple[AlertView, ...]
    looked_from_ms: WallMs | None = None
    silent: tuple[NodeSilence, ...] = ()


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule looks for, in sentences: when it fires, when it is over, and what hides it."""

    rule: AlertRule
    severity: Severity
    fires: str
    ends: str
    hidden_by: tuple[AlertRule, ...] = ()


class RulesReply(msgspec.Struct, frozen=True, kw_only=True):
    """All rules."""

    rules: tuple[RuleView, ...]


class SilencesReply(msgspec.Struct, frozen=True, kw_only=True):
    """Silences that have not ended; of a change the one that was made or ended."""

    observation: Observation
    silences: tuple[SilenceView, ...] = ()


class AcknowledgeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody sees to `alerts` (ids): why, and for how long at most (None: until they are over)."""

    alerts: tuple[str, ...]
    reason: str = ""
    ttl_s: float | None = None
    request_id: RequestId | None = None


class ResolveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`alerts` (ids) are over, and why that is known; what happens from now on raises them again."""

    alerts: tuple[str, ...]
    reason: str = ""
    request_id: RequestId | None = None


class SilenceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For `ttl_s` nobody is told of alerts that all the given fields fit; `node` is a name or an id."""

    reason: str
    ttl_s: float
    service: ServiceId | None = None
    project: ProjectName | None = None
    node: str = ""
    rule: AlertRule | None = None
    request_id: RequestId | None = None
