"""Figures over time, as the API gives them."""

import msgspec

from orca.model.ids import AllocationId, NodeId, ServiceId
from orca.model.view import NodeSilence, Observation


class SeriesPoint(msgspec.Struct, frozen=True, array_like=True):
    """From `at_s` (seconds since 1970) on, for one step: the mean and the peak of what was noted."""

    at_s: int
    mean: float
    peak: float


class SeriesView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One figure of one subject on one node: a copy, a service as that node's proxy answered for it, or the node.

    `points` are in the order of time; where nothing was noted there is none.
    """

    figure: str
    node: NodeId
    node_name: str = ""
    service: ServiceId | None = None
    allocation: AllocationId | None = None
    slot: int | None = None
    points: tuple[SeriesPoint, ...] = ()


class SeriesReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Series by subject; all have the same step, in seconds."""

    observation: Observation
    step_s: int
    series: tuple[SeriesView, ...] = ()
    silent: tuple[NodeSilence, ...] = ()
