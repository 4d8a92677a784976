"""Who belongs to the cluster and in which status: what SWIM says, seen through what members intend.

SWIM only knows that a member answers or does not. Whether it went on purpose is known from
its leave intent, which carries a time of the member clock: the newer intent wins, and an
intent may arrive before the member it is about. So intents for unknown members are kept for
a while, and every member has the time of its last one.
"""

import enum
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from gossip.messages import Address, JoinIntent, LeaveIntent
from orca.model.units import Instant

MEMBERS_MAX: Final = 32_768
"""Above it new names are ignored: three times the largest cluster that is simulated, and what a push/pull carries."""
INTENTS_MAX: Final = 4096
"""Intents kept for members that are not known yet; the oldest makes room."""


class MemberStatus(enum.IntEnum):
    """Serf's numbers, as the answer to a conflict query carries them."""

    ALIVE = 1
    LEAVING = 2
    LEFT = 3
    FAILED = 4


class StatusChange(enum.Enum):
    """What happened to a member; Serf's `member-join` and so on."""

    JOINED = "joined"
    LEFT = "left"
    FAILED = "failed"
    UPDATED = "updated"
    REAPED = "reaped"


class SerfMember(msgspec.Struct, frozen=True, kw_only=True):
    """One member as the cluster sees it. `changed_at`: since when it has this status."""

    node: str
    address: Address
    tags: dict[str, str]
    status: MemberStatus
    status_ltime: int
    version: bytes
    changed_at: Instant


class IntentVerdict(NamedTuple):
    """What an intent did: whether it is news to pass on, and what became of the member."""

    is_news: bool
    change: StatusChange | None = None
    member: SerfMember | None = None
    is_prune: bool = False


class _Remembered(NamedTuple):
    """An intent for a member that is not known yet."""

    ltime: int
    is_leave: bool
    kept_since: Instant


class Members:
    """The member table; knows nothing of clocks, packets or of who we are."""

    def __init__(self) -> None:
        self._members: dict[str, SerfMember] = {}
        self._intents: dict[str, _Remembered] = {}
        self._counts = dict.fromkeys(MemberStatus, 0)
        self.ignored_count = 0

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[SerfMember]:
        return iter(self._members.values())

    def get(self, node: str) -> SerfMember | None:
        """The member of that name."""
        return self._members.get(node)

    def count(self, status: MemberStatus) -> int:
        """How many members have that status; asked for every packet, so it is kept, not counted."""
        return self._counts[status]

    def in_status(self, *statuses: MemberStatus) -> list[SerfMember]:
        """All members in one of these statuses, by name."""
        return sorted((member for member in self if member.status in statuses), key=lambda member: member.node)

    def join(
        self, node: str, address: Address, tags: dict[str, str], version: bytes, now: Instant
    ) -> SerfMember | None:
        """SWIM found `node` alive. None when the table is full and the name is new."""
        known = self._members.get(node)
        status, ltime = MemberStatus.ALIVE, 0
        if known is not None:
            ltime = known.status_ltime
        elif len(self._members) >= MEMBERS_MAX:
            self.ignored_count += 1
            return None
        elif (intent := self._intents.pop(node, None)) is not None:
            ltime = intent.ltime
            status = MemberStatus.LEAVING if intent.is_leave else MemberStatus.ALIVE
        member = SerfMember(
            node=node, address=address, tags=tags, status=status, status_ltime=ltime, version=version, changed_at=now
        )
        return self._put(member)

    def update(self, node: str, address: Address, tags: dict[str, str], version: bytes) -> SerfMember | None:
        """Its tags or address changed; None when the member is not known."""
        known = self._members.get(node)
        if known is None:
            return None
        return self._put(msgspec.structs.replace(known, address=address, tags=tags, version=version))

    def leave(self, node: str, now: Instant, *, is_graceful: bool) -> tuple[StatusChange, SerfMember] | None:
        """SWIM found `node` dead, or it said itself that it goes (`is_graceful`).

        A member that meant to leave has left; another has failed, unless it said farewell to
        SWIM: then its intent was lost, and its own word counts as much. (A Serf agent would call
        it failed until our next exchange of states tells it better.)
        """
        known = self._members.get(node)
        if known is None or known.status not in {MemberStatus.ALIVE, MemberStatus.LEAVING}:
            return None
        has_left = is_graceful or known.status is MemberStatus.LEAVING
        status = MemberStatus.LEFT if has_left else MemberStatus.FAILED
        member = self._put(msgspec.structs.replace(known, status=status, changed_at=now))
        return (StatusChange.LEFT if has_left else StatusChange.FAILED), member

    def leave_intent(self, intent: LeaveIntent, now: Instant) -> IntentVerdict:
        """Apply one; it is news when it is newer than what the member's status stands on."""
        known = self._members.get(intent.node)
        if known is None:
            return IntentVerdict(self._remember(intent.node, intent.ltime, now, is_leave=True))
        if intent.ltime <= known.status_ltime:
            return IntentVerdict(is_news=False)
        # The time is kept even when the status stays: otherwise two nodes that both saw a second
        # intent for a member that left would send it to each other for ever.
        status, change = known.status, None
        if status is MemberStatus.ALIVE:
            status = MemberStatus.LEAVING
        elif status is MemberStatus.FAILED:
            status, change = MemberStatus.LEFT, StatusChange.LEFT
        changed_at = known.changed_at if status is known.status else now
        member = self._put(
            msgspec.structs.replace(known, status=status, status_ltime=intent.ltime, changed_at=changed_at)
        )
        return IntentVerdict(is_news=True, change=change, member=member, is_prune=intent.is_prune)

    def join_intent(self, intent: JoinIntent, now: Instant) -> IntentVerdict:
        """Apply one; a member that was leaving stays after all."""
        known = self._members.get(intent.node)
        if known is None:
            return IntentVerdict(self._remember(intent.node, intent.ltime, now, is_leave=False))
        if intent.ltime <= known.status_ltime:
            return IntentVerdict(is_news=False)
        is_staying = known.status is MemberStatus.LEAVING
        member = self._put(
            msgspec.structs.replace(
                known,
                status=MemberStatus.ALIVE if is_staying else known.status,
                status_ltime=intent.ltime,
                changed_at=now if is_staying else known.changed_at,
            )
        )
        return IntentVerdict(is_news=True, member=member)

    def erase(self, node: str) -> SerfMember | None:
        """Forget the member; returns it when it was there."""
        member = self._members.pop(node, None)
        if member is not None:
            self._counts[member.status] -= 1
        return member

    def reap(self, now: Instant, failed_keep_s: float, left_keep_s: float, intent_keep_s: float) -> list[SerfMember]:
        """Forget who failed or left long ago, and intents whose member never came."""
        for node in [node for node, kept in self._intents.items() if kept.kept_since + intent_keep_s <= now]:
            del self._intents[node]
        keeps = {MemberStatus.FAILED: failed_keep_s, MemberStatus.LEFT: left_keep_s}
        gone = [
            member
            for member in self.in_status(MemberStatus.FAILED, MemberStatus.LEFT)
            if member.changed_at + keeps[member.status] <= now
        ]
        for member in gone:
            self.erase(member.node)
        return gone

    def check_invariants(self) -> None:
        """Raise AssertionError when the tables do not fit each other."""
        assert len(self._members) <= MEMBERS_MAX, f"{len(self._members)} members, {MEMBERS_MAX} allowed"
        assert len(self._intents) <= INTENTS_MAX, f"{len(self._intents)} intents, {INTENTS_MAX} allowed"
        for status, count in self._counts.items():
            assert count == len(self.in_status(status)), f"{count} members are counted as {status.name}"
        for node, member in self._members.items():
            assert member.node == node, f"{node} stands for {member.node}"
            assert node not in self._intents, f"{node} is known and still has an intent for later"

    def _put(self, member: SerfMember) -> SerfMember:
        known = self._members.get(member.node)
        if known is not None:
            self._counts[known.status] -= 1
        self._counts[member.status] += 1
        self._members[member.node] = member
        return member

    def _remember(self, node: str, ltime: int, now: Instant, *, is_leave: bool) -> bool:
        """Keep the newest intent for a member that is not known yet; False when it is no news."""
        kept = self._intents.get(node)
        if kept is not None and kept.ltime >= ltime:
            return False
        if kept is None and len(self._intents) >= INTENTS_MAX:
            del self._intents[next(iter(self._intents))]
        self._intents.pop(node, None)  # to the end: dicts keep order, so the first is the oldest
        self._intents[node] = _Remembered(ltime, is_leave, now)
        return True
