"""The gossip machine's state and news in the words of `gossip.membership`."""

from collections.abc import Mapping
from typing import Final

from gossip.effects import Noted, NoteLevel
from gossip.machine import Gossip
from gossip.membership import Member, MembersChanged
from gossip.rpc.backend import LogLevel, LogLine
from gossip.serf import MemberStatus, SerfMember, StatusChanged

_LEVELS: Final = {NoteLevel.DEBUG: LogLevel.DEBUG, NoteLevel.INFO: LogLevel.INFO, NoteLevel.WARNING: LogLevel.WARN}


def member_of(member: SerfMember) -> Member:
    """A member as others see it."""
    return Member(
        node=member.node, address=member.address, tags=member.tags, status=member.status, version=member.version
    )


def change_of(news: StatusChanged) -> MembersChanged:
    """What happened to members."""
    return MembersChanged(change=news.change, members=tuple(map(member_of, news.members)))


def line_of(note: Noted) -> LogLine:
    """A line of the log, in the form of Serf's."""
    level = _LEVELS[note.level]
    return LogLine(level=level, text=f"[{level.name}] gossip: {note.message}")


def stats_of(machine: Gossip, version: str, *, is_encrypted: bool) -> Mapping[str, Mapping[str, str]]:
    """What `serf info` shows."""
    members = machine.serf.members()
    depths = machine.serf.queue_depths
    own = machine.serf.member(machine.swim.node)
    return {
        "agent": {"name": machine.swim.node},
        "runtime": {"version": version},
        "serf": {
            "members": str(len(members)),
            "failed": str(sum(member.status is MemberStatus.FAILED for member in members)),
            "left": str(sum(member.status is MemberStatus.LEFT for member in members)),
            "health_score": str(machine.swim.awareness_score),
            "intent_queue": str(depths["intents"]),
            "event_queue": str(depths["events"]),
            "query_queue": str(depths["queries"]),
            "encrypted": str(is_encrypted).lower(),
        },
        "tags": own.tags if own is not None else {},
        "swim": {name: str(count) for name, count in machine.swim.counts.items()},
        "drops": {cause: str(count) for cause, count in machine.drops.items()},
    }
