"""Who is told of alerts, and what was told: so that whoever leads next tells nobody again.

A notice is claimed before it is sent and settled afterwards. While a claim is fresh nobody but its node sends, so two
nodes that both believe that they lead do not tell the same twice: the claim of one of them is refused. A claim that
its node did not settle within `CLAIM_MS` may or may not have been told; another may claim it then, which is the one
way in which something is told twice. What is told to be over, or is not told at all, leaves nothing behind.
"""

from typing import Final, assert_never

from consensus.state.applying.results import (
    NOTHING,
    TEXT_MAX,
    Done,
    Refusal,
    check_room,
    check_text,
    check_time,
    touch,
)
from consensus.state.cluster import ClusterState
from consensus.state.commands.notices import (
    ClaimNotices,
    NoticeCommand,
    NoticeEntry,
    PutChannel,
    RemoveChannel,
    SettleNotices,
)
from consensus.state.records import ChannelRecord, NoticeClaim, NoticeRecord, NoticeState, notice_key
from orca.model.ids import StateRevision
from orca.model.notice import CHANNEL_NAME

CHANNELS_MAX: Final = 100
NOTICES_MAX: Final = 20_000
ENTRIES_MAX: Final = 500
CLAIM_MS: Final = 60_000
"""Twice what a message may take: clocks of nodes may differ by as much as the rest."""


def apply_notice(state: ClusterState, at: StateRevision, command: NoticeCommand) -> Done:
    """Carry out a command about channels and what they were told."""
    match command:
        case PutChannel():
            _put(state, command)
            touch(state, at)
        case RemoveChannel():
            if state.channels.pop(command.channel, None) is None:
                raise Refusal("not_found", f"there is no channel {command.channel[:80]!r}")
            for key in [key for key, one in state.notices.items() if one.channel == command.channel]:
                del state.notices[key]
            touch(state, at)
        case ClaimNotices():
            _claim(state, command)
        case SettleNotices():
            _settle(state, command)
        case _:
            assert_never(command)
    return NOTHING


def is_fresh(claim: NoticeClaim, now_ms: int) -> bool:
    """Whether nobody but the node of `claim` may tell of it at `now_ms`."""
    return now_ms < claim.at_ms + CLAIM_MS


def _put(state: ClusterState, command: PutChannel) -> None:
    if not CHANNEL_NAME.fullmatch(command.channel):
        raise Refusal(
            "invalid_request",
            f"{command.channel[:80]!r} cannot be the name of a channel; 1 to 64 letters, digits, '_', '.' and '-' are",
        )
    if command.secret not in state.secrets:
        raise Refusal("not_found", f"there is no secret {command.secret[:80]!r} to have the channel's address of")
    if command.project is not None:
        check_text("the project", command.project)
    known = state.channels.get(command.channel)
    if known is None:
        check_room("channels", len(state.channels), CHANNELS_MAX, "remove some")
    state.channels[command.channel] = ChannelRecord(
        name=command.channel,
        secret=command.secret,
        severity=command.severity,
        project=command.project,
        created_at_ms=command.at_ms if known is None else known.created_at_ms,
        created_by=command.actor if known is None else known.created_by,
    )


def _claim(state: ClusterState, command: ClaimNotices) -> None:
    if command.channel not in state.channels:
        raise Refusal("not_found", f"there is no channel {command.channel[:80]!r}")
    if command.node not in state.nodes:
        raise Refusal("forbidden", f"{command.node} is no node of this cluster and tells nobody")
    if not 1 <= len(command.entries) <= ENTRIES_MAX:
        raise Refusal("invalid_request", f"{len(command.entries)} notices; 1 to {ENTRIES_MAX} are told at once")
    new = 0
    for entry in command.entries:
        new += _check_entry(state, command, entry)
    check_room("notices", len(state.notices) + new - 1, NOTICES_MAX, "remove channels")
    for entry in command.entries:
        key = notice_key(command.channel, entry.alert)
        known = state.notices.get(key)
        told = NoticeState(is_firing=entry.is_firing, severity=entry.severity, since_ms=entry.since_ms)
        state.notices[key] = NoticeRecord(
            channel=command.channel,
            alert=entry.alert,
            told=None if known is None else known.told,
            claim=NoticeClaim(node=command.node, at_ms=command.at_ms, state=told),
        )


def _check_entry(state: ClusterState, command: ClaimNotices, entry: NoticeEntry) -> bool:
    """Whether it is new."""
    check_text("the alert", entry.alert, length_max=TEXT_MAX)
    check_time("since_ms", entry.since_ms)
    known = state.notices.get(notice_key(command.channel, entry.alert))
    claim = None if known is None else known.claim
    if claim is not None and claim.node != command.node and is_fresh(claim, command.at_ms):
        raise Refusal("conflict", f"{claim.node} tells {command.channel} of {entry.alert} just now")
    return known is None


def _settle(state: ClusterState, command: SettleNotices) -> None:
    for alert in command.alerts:
        key = notice_key(command.channel, alert)
        known = state.notices.get(key)
        if known is None or known.claim is None or known.claim.node != command.node:
            continue
        if known.claim.state.is_firing:
            state.notices[key] = NoticeRecord(channel=known.channel, alert=alert, told=known.claim.state)
        else:
            del state.notices[key]
