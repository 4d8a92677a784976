"""Channels: who is told of alerts, and how far that is."""

import re
from typing import Final

import msgspec

from orca.model.event import Severity
from orca.model.ids import ChannelName, NodeId, ProjectName, RequestId, SecretId
from orca.model.units import WallMs
from orca.model.view import Observation

CHANNEL_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def channel_secret(channel: ChannelName) -> SecretId:
    """Where a channel's address is kept when no other secret is named: one of the whole cluster."""
    return SecretId(f"/notify.{channel}")


class ChannelView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A channel, without its address. `firing` alerts it was told of and not yet that they are over.

    `waiting`: about to be told, or tried in vain.
    """

    name: ChannelName
    secret: SecretId
    severity: Severity
    created_at_ms: WallMs
    created_by: str
    project: ProjectName | None = None
    firing: int = 0
    waiting: int = 0


class ChannelsReply(msgspec.Struct, frozen=True, kw_only=True):
    """All channels; of a change the one that was made or removed."""

    observation: Observation
    channels: tuple[ChannelView, ...] = ()


class ChannelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tell a channel of alerts of at least `severity`, of one project or of everything.

    `address` is sealed and never shown again; `secret` names one that is there already. One of the two is given.
    """

    address: str = ""
    secret: SecretId | None = None
    severity: Severity = Severity.WARNING
    project: ProjectName | None = None
    request_id: RequestId | None = None


class ChannelTestReply(msgspec.Struct, frozen=True, kw_only=True):
    """A message was sent by `node` and taken."""

    observation: Observation
    channel: ChannelName
    node: NodeId
