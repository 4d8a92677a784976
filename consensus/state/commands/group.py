"""Commands about the cluster as a whole."""

from typing import TypeAlias

from msgspec import UNSET, UnsetType

from consensus.state.commands.base import Change


class ChangeSettings(Change, frozen=True, kw_only=True, tag="change_settings"):
    """Settings of the whole cluster; what is not given stays. `voters` None is: by its size."""

    name: str | UnsetType = UNSET
    voters: int | UnsetType | None = UNSET
    gossip_key_version: int | UnsetType = UNSET
    gossip_key_removals: int | UnsetType = UNSET


class RaiseSchema(Change, frozen=True, kw_only=True, tag="raise_schema"):
    """From here on commands of schema `to` may be in the log: every node's release knows them."""

    to: int


class BeginEpoch(Change, frozen=True, kw_only=True, tag="begin_epoch"):
    """The group was started anew from a survivor; fencing numbers of the old epoch are all smaller."""

    epoch: int


GroupCommand: TypeAlias = ChangeSettings | RaiseSchema | BeginEpoch
