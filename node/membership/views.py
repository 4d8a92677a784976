"""Members and key reports as people see them. Pure: values in, views out."""

import base64
import hashlib
from typing import Final

import msgspec

from gossip.membership import Member
from gossip.serf import MemberStatus, RotationProgressed, SerfMember
from gossip.serf.effects import KeyReport as GossipKeyReport
from gossip.swim import MemberState as SwimState
from gossip.swim import MemberView as SwimMember
from node.membership.tags import VERSION_TAG, ZONE_TAG, Tagged, name_of, node_of
from orca.model.units import Instant
from orca.model.view import KeyReport, MemberState, MemberView

_STATES: Final = {
    MemberStatus.ALIVE: MemberState.ALIVE,
    MemberStatus.LEAVING: MemberState.LEAVING,
    MemberStatus.LEFT: MemberState.LEFT,
    MemberStatus.FAILED: MemberState.FAILED,
}


def member_view(member: SerfMember, probed: SwimMember | None, observer: str, now: Instant) -> MemberView:
    """One member: Serf's belief, and what SWIM's probes add to it."""
    state, since = _STATES[member.status], member.changed_at
    if state is MemberState.ALIVE and probed is not None and probed.state is SwimState.SUSPECT:
        state, since = MemberState.SUSPECT, probed.changed_at
    is_observer = member.node == observer
    heard_at = None if probed is None or is_observer else probed.heard_at
    return _view(
        member,
        state=state,
        state_age_ms=_age_ms(since, now),
        is_observer=is_observer,
        heard_age_ms=None if heard_at is None else _age_ms(heard_at, now),
        rtt_s=None if probed is None else probed.rtt_s,
    )


def told_view(
    member: Member, *, observer: str, since: Instant, told_at: Instant, rtt_s: float | None, now: Instant
) -> MemberView:
    """One member as our agent told it at `told_at`; its state is as old as we know of it.

    Agents do not say when they heard whom: the age of the knowledge is that of the agent's word.
    """
    is_observer = member.node == observer
    return _view(
        member,
        state=_STATES[member.status],
        state_age_ms=_age_ms(since, now),
        is_observer=is_observer,
        heard_age_ms=None if is_observer else _age_ms(told_at, now),
        rtt_s=None if is_observer else rtt_s,
    )


def silent_view(view: MemberView, since: Instant, now: Instant) -> MemberView:
    """A node that is not heard although its agent lives."""
    age_ms = _age_ms(since, now)
    return msgspec.structs.replace(view, state=MemberState.FAILED, state_age_ms=age_ms, heard_age_ms=age_ms)


def removed_view(view: MemberView, age_ms: int) -> MemberView:
    """A node that is of the cluster no more, for so long, whatever gossip believes of it."""
    return msgspec.structs.replace(view, state=MemberState.REMOVED, state_age_ms=age_ms)


def _view(
    member: Tagged,
    *,
    state: MemberState,
    state_age_ms: int,
    is_observer: bool,
    heard_age_ms: int | None,
    rtt_s: float | None,
) -> MemberView:
    """A plain Serf agent has no id and is called by its own name."""
    return MemberView(
        name=name_of(member),
        id=node_of(member),
        address=str(member.address),
        state=state,
        state_age_ms=state_age_ms,
        is_observer=is_observer,
        heard_age_ms=heard_age_ms,
        rtt_ms=None if rtt_s is None else round(rtt_s * 1000, 2),
        zone=member.tags.get(ZONE_TAG, ""),
        version=member.tags.get(VERSION_TAG, ""),
        tags=member.tags,
    )


def _age_ms(since: Instant, now: Instant) -> int:
    return max(0, round((now - since) * 1000))


def fingerprint(key: str) -> str:
    """A short name for a key (base64) that does not give it away."""
    try:
        raw = base64.b64decode(key)
    except ValueError:
        raw = key.encode(errors="surrogateescape")
    return hashlib.sha256(raw).hexdigest()[:12]


def key_report(report: GossipKeyReport, attempt: int = 1, operation: str = "") -> KeyReport:
    """What became of one key operation, keys by fingerprint."""
    return KeyReport(
        operation=operation or report.operation.value,
        expected=report.expected,
        answered=report.answered,
        attempt=attempt,
        failures=report.failures,
        silent=report.silent,
        keys={fingerprint(key): count for key, count in sorted(report.keys.items())},
        primary_keys={fingerprint(key): count for key, count in sorted(report.primary_keys.items())},
    )


def rotation_report(progress: RotationProgressed) -> KeyReport:
    """One step of a rotation."""
    return key_report(progress.report, progress.attempt, progress.step.value)
