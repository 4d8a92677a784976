"""What must have happened between two looks at a cluster."""

from collections.abc import Mapping, Sequence
from typing import Final

from gossip.membership import Member, MembersChanged, MemberStatus, StatusChange

_PRESENT: Final = (MemberStatus.ALIVE, MemberStatus.LEAVING)


def differences(before: Mapping[str, Member], after: Mapping[str, Member]) -> list[MembersChanged]:
    """The changes that lead from `before` to `after`, by kind and name.

    What came and went between the two looks is not seen. A member that is leaving is
    still there; it is no news until it left.
    """
    changes: dict[StatusChange, list[Member]] = {}
    for node in sorted(after):
        member = after[node]
        change = _change(before.get(node), member)
        if change is not None:
            changes.setdefault(change, []).append(member)
    gone = [before[node] for node in sorted(before) if node not in after]
    if gone:
        changes[StatusChange.REAPED] = gone
    return [MembersChanged(change=change, members=tuple(members)) for change, members in changes.items()]


def by_name(members: Sequence[Member]) -> dict[str, Member]:
    """The members by name."""
    return {member.node: member for member in members}


def _change(before: Member | None, after: Member) -> StatusChange | None:
    is_new = (
        before is None or (before.status in _PRESENT) != (after.status in _PRESENT) or _ended_otherwise(before, after)
    )
    if is_new:
        match after.status:
            case MemberStatus.FAILED:
                return StatusChange.FAILED
            case MemberStatus.LEFT:
                return StatusChange.LEFT
            case _:
                return StatusChange.JOINED
    assert before is not None, "a member that was not known is new"
    is_same = (before.address, before.tags, before.version) == (after.address, after.tags, after.version)
    return None if is_same else StatusChange.UPDATED


def _ended_otherwise(before: Member, after: Member) -> bool:
    """Failed, and now declared left; or the other way round."""
    return after.status not in _PRESENT and before.status is not after.status
