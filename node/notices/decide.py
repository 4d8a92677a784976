"""What each channel is still to be told. Pure."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from consensus.state.applying.notices import ENTRIES_MAX, is_fresh
from consensus.state.records import ChannelRecord, NoticeRecord, NoticeState
from orca.model.alert import AlertState, AlertView
from orca.model.event import Severity
from orca.model.ids import ChannelName, NodeId, split_service_id
from orca.model.units import Instant, WallMs

GONE_S: Final = 120.0
"""For how long an alert must be gone from all histories before it is told to be over."""
_RANKS: Final = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One change that one channel is to be told. `view` None: the alert is gone without an end that anybody saw."""

    alert: str
    state: NoticeState
    view: AlertView | None
    is_worse: bool = False

    @property
    def identity(self) -> str:
        """The same for the same change, whoever tells it."""
        word = "firing" if self.state.is_firing else "over"
        return f"{self.alert}/{self.state.since_ms}/{word}/{self.state.severity.value}"


def due(
    alerts: Iterable[AlertView],
    channels: Iterable[ChannelRecord],
    notices: Mapping[str, NoticeRecord],
    *,
    gone: Collection[str],
    now_ms: WallMs,
    node: NodeId,
) -> dict[ChannelName, tuple[Notice, ...]]:
    """For each channel what `node` is to tell it now, the worst and oldest first; at most `ENTRIES_MAX` at once."""
    views = {one.id: one for one in alerts}
    found: dict[ChannelName, tuple[Notice, ...]] = {}
    for channel in channels:
        told = {one.alert: one for one in notices.values() if one.channel == channel.name}
        mine = [
            notice
            for alert in dict.fromkeys((*views, *told))
            if not _is_others(told.get(alert), now_ms, node)
            and (notice := _notice(alert, views.get(alert), told.get(alert), channel, gone)) is not None
        ]
        if mine:
            mine.sort(key=lambda one: (not one.state.is_firing, -_RANKS[one.state.severity], one.state.since_ms))
            found[channel.name] = tuple(mine[:ENTRIES_MAX])
    return found


def told_of(notices: Mapping[str, NoticeRecord]) -> frozenset[str]:
    """The alerts that anybody was told of, and not yet that they are over."""
    return frozenset(one.alert for one in notices.values())


def _is_others(record: NoticeRecord | None, now_ms: WallMs, node: NodeId) -> bool:
    claim = None if record is None else record.claim
    return claim is not None and claim.node != node and is_fresh(claim, now_ms)


def _notice(
    alert: str,
    view: AlertView | None,
    record: NoticeRecord | None,
    channel: ChannelRecord,
    gone: Collection[str],
) -> Notice | None:
    last = None if record is None else record.told if record.claim is None else record.claim.state
    is_settled = record is None or record.claim is None
    if view is None:
        # Who was told something hears the end of it also when nobody saw that.
        return _over(alert, None, last) if alert in gone and last is not None else None
    if view.silence is not None:
        return None
    if view.state is AlertState.RESOLVED:
        return _over(alert, view, last) if last is not None else None
    is_new = last is None or not last.is_firing
    is_worse = last is not None and last.is_firing and _RANKS[view.severity] > _RANKS[last.severity]
    if is_settled and not (is_new or is_worse):
        return None
    if not _is_for(channel, view) or view.acknowledged is not None:
        return None
    state = NoticeState(is_firing=True, severity=view.severity, since_ms=view.since_ms)
    return Notice(alert=alert, state=state, view=view, is_worse=is_worse)


def _over(alert: str, view: AlertView | None, last: NoticeState | None) -> Notice | None:
    assert last is not None, "only who was told that it fires is told that it is over"
    return Notice(
        alert=alert,
        state=NoticeState(is_firing=False, severity=last.severity, since_ms=last.since_ms),
        view=view,
    )


def _is_for(channel: ChannelRecord, view: AlertView) -> bool:
    if _RANKS[view.severity] < _RANKS[channel.severity]:
        return False
    return channel.project is None or (
        view.service is not None and split_service_id(view.service)[0] == channel.project
    )


class Vanishing:
    """Since when alerts that people were told of are neither firing nor over."""

    def __init__(self) -> None:
        self._since: dict[str, Instant] = {}

    @property
    def is_counting(self) -> bool:
        """Whether anything is missing."""
        return bool(self._since)

    def look(self, told: Collection[str], alerts: Iterable[AlertView], now: Instant, *, is_blind: bool) -> set[str]:
        """Those that have been gone for `GONE_S`; none while `is_blind`, as some history is not known."""
        seen = {name for one in alerts for name in (one.id, *one.stands_for)}
        missing = sorted(set(told) - seen)
        self._since = {} if is_blind else {one: self._since.get(one, now) for one in missing}
        return {one for one, since in self._since.items() if now - since >= GONE_S}
