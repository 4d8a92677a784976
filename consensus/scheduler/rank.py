"""Which of the feasible nodes is best; ties go to the lower id, so plans repeat."""

from collections.abc import Mapping, Sequence

from consensus.scheduler.feasible import Usage
from orca.model.ids import NodeId
from orca.model.node import NodeFacts
from orca.model.spec import ServiceSpec


def best_node(spec: ServiceSpec, candidates: Sequence[NodeFacts], usages: Mapping[NodeId, Usage]) -> NodeFacts:
    """The candidate for one more copy of `spec`; `candidates` must not be empty.

    Fewest copies of the service in the node's part of the spread label, then on the
    node itself, then the smallest share of cpu and memory in use.
    """
    in_zone: dict[str, int] = {}
    if spec.placement.spread is not None:
        for node in candidates:
            zone = node.labels[spec.placement.spread]
            in_zone[zone] = in_zone.get(zone, 0) + usages[node.id].copies.get(spec.id, 0)

    def score(node: NodeFacts) -> tuple[int, int, float, str]:
        usage = usages[node.id]
        zone = in_zone[node.labels[spec.placement.spread]] if spec.placement.spread is not None else 0
        used = max(usage.cpu_milli / max(1, node.cpu_milli), usage.memory_bytes / max(1, node.memory_bytes))
        return (zone, usage.copies.get(spec.id, 0), used, node.id)

    return min(candidates, key=score)
