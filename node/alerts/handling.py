"""What people said about alerts, put into the answer. Pure.

An acknowledgement is of one run of an alert: when it is over and fires again, nobody has seen to that yet. A silence is
of whatever fits it while it lasts. Neither hides an alert from who asks: they say that nobody need be told of it.
"""

from collections.abc import Iterable, Mapping

import msgspec

from consensus.state.records import AlertDeedRecord, AlertMarkRecord, NodeRecord, SilenceRecord
from orca.model.alert import AlertDeed, AlertState, AlertView, SilenceView
from orca.model.ids import NodeId, split_service_id
from orca.model.units import WallMs


def resolutions(marks: Mapping[str, AlertMarkRecord]) -> dict[str, WallMs]:
    """When somebody said of which alert that it is over."""
    return {alert: one.resolved.at_ms for alert, one in marks.items() if one.resolved is not None}


def handled(
    alerts: Iterable[AlertView], marks: Mapping[str, AlertMarkRecord], silences: Iterable[SilenceView], now_ms: WallMs
) -> tuple[AlertView, ...]:
    """`alerts` with what was said about each, as of `now_ms`. `silences` are those that have not ended."""
    in_force = tuple(silences)
    return tuple(_handled(one, marks.get(one.id), in_force, now_ms) for one in alerts)


def silence_view(record: SilenceRecord, nodes: Mapping[NodeId, NodeRecord]) -> SilenceView:
    """As the API shows it."""
    named = None if record.node is None else nodes.get(record.node)
    return SilenceView(
        id=record.id,
        by=record.created_by,
        since_ms=record.created_at_ms,
        ends_at_ms=record.ends_at_ms,
        reason=record.reason,
        service=record.service,
        project=record.project,
        node=record.node,
        node_name="" if named is None else named.name,
        rule=record.rule,
    )


def fits(silence: SilenceView, alert: AlertView) -> bool:
    """Whether all that `silence` names is true of `alert`. What happened on several nodes fits none of them."""
    project = None if alert.service is None else split_service_id(alert.service)[0]
    return (
        (silence.service is None or silence.service == alert.service)
        and (silence.project is None or silence.project == project)
        and (silence.node is None or alert.nodes == (silence.node,))
        and silence.rule in {"", alert.rule.value}
    )


def _handled(
    alert: AlertView, mark: AlertMarkRecord | None, silences: tuple[SilenceView, ...], now_ms: WallMs
) -> AlertView:
    acknowledged = resolved = None
    if mark is not None and alert.state is AlertState.FIRING:
        acknowledged = _in_force(mark.acknowledged, alert, now_ms)
    elif mark is not None and mark.resolved is not None and mark.resolved.at_ms == alert.resolved_at_ms:
        resolved = _deed(mark.resolved)
    fitting = [one for one in silences if fits(one, alert)]
    longest = max(fitting, key=lambda one: (one.ends_at_ms, one.id), default=None)
    return msgspec.structs.replace(alert, acknowledged=acknowledged, resolved_by=resolved, silence=longest)


def _in_force(deed: AlertDeedRecord | None, alert: AlertView, now_ms: WallMs) -> AlertDeed | None:
    if deed is None or (deed.ends_at_ms is not None and deed.ends_at_ms <= now_ms):
        return None
    return _deed(deed) if alert.since_ms <= deed.at_ms else None


def _deed(deed: AlertDeedRecord) -> AlertDeed:
    return AlertDeed(by=deed.actor, at_ms=deed.at_ms, reason=deed.reason, ends_at_ms=deed.ends_at_ms)
