"""Copies that write to a volume go to where its data is.

A volume lives on one node, so a copy that was on another one would begin with an empty volume: worse than none. The
state keeps where each slot of each service first wrote (`VolumeRecord`), also while the service is removed. A slot that
was somewhere goes there again. A slot that was nowhere goes, when other services of the project write to a volume of
that name and this one never did, to one of their nodes, so that they share the data; else it is free.
Only removing the node (`orca nodes rm`) gives the data up.
"""

from consensus.scheduler.feasible import Bounds
from consensus.state.cluster import ClusterState
from consensus.state.records import volume_ids
from orca.model.ids import NodeId
from orca.model.spec import ServiceSpec


def writes_volume(spec: ServiceSpec) -> bool:
    """Whether a copy keeps data on its node. A global service has its own on each node, and shares none."""
    return bool(volume_ids(spec))


def volume_bounds(state: ClusterState, spec: ServiceSpec, slot: int) -> Bounds | None:
    """Where copy `slot` of `spec` finds its data; None when it may begin anywhere."""
    bounds: Bounds | None = None
    for volume in volume_ids(spec):
        record = state.volumes.get(volume)
        if record is None:
            continue
        own = {home.node for home in record.homes if home.service == spec.id and home.slot == slot}
        if not own and not any(home.service == spec.id for home in record.homes):
            own = {home.node for home in record.homes}
        if not own:
            continue
        nodes = frozenset(own) if bounds is None else bounds.nodes & own
        bounds = Bounds(nodes, f"does not have the data of volume {volume}: {_whereabouts(state, own)}")
    return bounds


def _whereabouts(state: ClusterState, nodes: set[NodeId]) -> str:
    names = sorted(state.nodes[one].name if one in state.nodes else str(one) for one in nodes)
    return f"that is on {', '.join(names[:3])}"
