"""Members and key reports as people see them. Pure: values in, views out."""

import base64
import hashlib
from typing import Final

from gossip.serf import MemberStatus, RotationProgressed, SerfMember
from gossip.serf.effects import KeyReport as GossipKeyReport
from gossip.swim import MemberState as SwimState
from gossip.swim import MemberView as SwimMember
from orca.model.ids import NodeId
from orca.model.units import Instant
from orca.model.view import KeyReport, MemberState, MemberView

MESH_TAG: Final = "mesh"
NAME_TAG: Final = "name"
CLUSTER_TAG: Final = "cluster"
ZONE_TAG: Final = "zone"
VERSION_TAG: Final = "orca"

_STATES: Final = {
    MemberStatus.ALIVE: MemberState.ALIVE,
    MemberStatus.LEAVING: MemberState.LEAVING,
    MemberStatus.LEFT: MemberState.LEFT,
    MemberStatus.FAILED: MemberState.FAILED,
}


def member_view(member: SerfMember, probed: SwimMember | None, observer: str, now: Instant) -> MemberView:
    """One member: Serf's belief, and what SWIM's probes add to it.

    A plain Serf agent has no id and is called by its own name.
    """
    state, since = _STATES[member.status], member.changed_at
    if state is MemberState.ALIVE and probed is not None and probed.state is SwimState.SUSPECT:
        state, since = MemberState.SUSPECT, probed.changed_at
    is_orca = VERSION_TAG in member.tags
    is_observer = member.node == observer
    heard_at = None if probed is None or is_observer else probed.heard_at
    rtt_s = None if probed is None else probed.rtt_s
    return MemberView(
        name=member.tags.get(NAME_TAG, member.node) if is_orca else member.node,
        id=NodeId(member.node) if is_orca else None,
        address=str(member.address),
        state=state,
        state_age_ms=_age_ms(since, now),
        is_observer=is_observer,
        heard_age_ms=None if heard_at is None else _age_ms(heard_at, now),
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
