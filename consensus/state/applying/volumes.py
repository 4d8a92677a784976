"""Where volumes are: noted when a copy that writes to one is placed, forgotten with the node."""

from typing import Final

import msgspec

from consensus.state.cluster import ClusterState
from consensus.state.records import VolumeHome, VolumeRecord, volume_ids
from orca.model.allocation import Allocation
from orca.model.ids import NodeId

VOLUMES_MAX: Final = 20_000
"""Above this the oldest of services that do not exist any more are forgotten."""


def settle_volumes(state: ClusterState, placement: Allocation) -> None:
    """The data of that copy is on its node from now on."""
    spec = state.spec_of(placement)
    if not spec.mounts:
        return
    home = VolumeHome(service=placement.service, slot=placement.slot, node=placement.node)
    for volume in volume_ids(spec):
        known = state.volumes.get(volume)
        homes = () if known is None else known.homes
        if home in homes:
            continue
        others = tuple(one for one in homes if (one.service, one.slot) != (home.service, home.slot))
        state.volumes[volume] = VolumeRecord(id=volume, homes=(*others, home))
    if len(state.volumes) > VOLUMES_MAX:
        _forget_oldest(state)


def _forget_oldest(state: ClusterState) -> None:
    for volume, record in list(state.volumes.items()):
        if len(state.volumes) <= VOLUMES_MAX:
            return
        if not any(home.service in state.services for home in record.homes):
            del state.volumes[volume]


def lose_volumes(state: ClusterState, node: NodeId) -> None:
    """The node is gone, and what was on it."""
    for volume, record in list(state.volumes.items()):
        homes = tuple(home for home in record.homes if home.node != node)
        if not homes:
            del state.volumes[volume]
        elif homes != record.homes:
            state.volumes[volume] = msgspec.structs.replace(record, homes=homes)
