"""Commands about who is told of alerts: channels, and what each was told."""

from typing import TypeAlias

from consensus.state.commands.base import Change, Duty, Part
from orca.model.event import Severity
from orca.model.ids import ChannelName, NodeId, ProjectName, SecretId
from orca.model.units import WallMs


class PutChannel(Change, frozen=True, kw_only=True, tag="put_channel"):
    """From now on `channel` is told of alerts of at least `severity`, of one project or of everything.

    `secret` holds the address: whoever knows that of most services may write to them.
    """

    channel: ChannelName
    secret: SecretId
    severity: Severity = Severity.WARNING
    project: ProjectName | None = None


class RemoveChannel(Change, frozen=True, kw_only=True, tag="remove_channel"):
    """The channel is told of nothing any more."""

    channel: ChannelName


class NoticeEntry(Part, frozen=True, kw_only=True):
    """That an alert fires, how bad it is and since when; or that it does no more."""

    alert: str
    is_firing: bool
    severity: Severity
    since_ms: WallMs


class ClaimNotices(Duty, frozen=True, kw_only=True, tag="claim_notices"):
    """`node` is about to tell `channel` of these: nobody else does at the same time."""

    channel: ChannelName
    node: NodeId
    entries: tuple[NoticeEntry, ...]


class SettleNotices(Duty, frozen=True, kw_only=True, tag="settle_notices"):
    """What `node` claimed to tell `channel` of these alerts was told."""

    channel: ChannelName
    node: NodeId
    alerts: tuple[str, ...]


NoticeCommand: TypeAlias = PutChannel | RemoveChannel | ClaimNotices | SettleNotices
