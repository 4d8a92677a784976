"""Commands about alerts: what people say about them, and for how long that holds."""

from typing import TypeAlias

from consensus.state.commands.base import Change
from orca.model.ids import NodeId, ProjectName, ServiceId, SilenceId
from orca.model.units import WallMs


class AcknowledgeAlerts(Change, frozen=True, kw_only=True, tag="acknowledge_alerts"):
    """Somebody sees to these: true of each until it is over, at most until `ends_at_ms`."""

    alerts: tuple[str, ...]
    reason: str = ""
    ends_at_ms: WallMs | None = None


class ResolveAlerts(Change, frozen=True, kw_only=True, tag="resolve_alerts"):
    """These are over: what happened until now raises none of them again."""

    alerts: tuple[str, ...]
    reason: str = ""


class SilenceAlerts(Change, frozen=True, kw_only=True, tag="silence_alerts"):
    """Until `ends_at_ms` nobody is to be told of alerts that all the given fields fit; an empty one fits any."""

    silence: SilenceId
    ends_at_ms: WallMs
    reason: str
    service: ServiceId | None = None
    project: ProjectName | None = None
    node: NodeId | None = None
    rule: str = ""


class EndSilence(Change, frozen=True, kw_only=True, tag="end_silence"):
    """The silence is over before its time."""

    silence: SilenceId


AlertCommand: TypeAlias = AcknowledgeAlerts | ResolveAlerts | SilenceAlerts | EndSilence
