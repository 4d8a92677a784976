"""Which nodes may take a copy, and for every refusal the reason."""

from collections.abc import Iterable, Mapping

import msgspec

from orca.model.ids import NodeId, ServiceId
from orca.model.node import NodeFacts
from orca.model.spec import Protocol, ServiceSpec
from orca.model.units import format_bytes, format_cpu

PublishedPort = tuple[int, Protocol]


class Usage(msgspec.Struct, kw_only=True):
    """What the copies placed on one node have reserved; grows while a plan is made."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    copies: dict[ServiceId, int] = {}
    host_ports: dict[PublishedPort, ServiceId] = {}

    def add(self, spec: ServiceSpec) -> None:
        """Count one more copy of `spec`."""
        self.cpu_milli += spec.resources.cpu_milli or 0
        self.memory_bytes += spec.resources.memory_bytes or 0
        self.copies[spec.id] = self.copies.get(spec.id, 0) + 1
        for published in published_ports(spec):
            self.host_ports[published] = spec.id


def published_ports(spec: ServiceSpec) -> tuple[PublishedPort, ...]:
    """The host ports that each copy of `spec` takes on its node."""
    return tuple((port.host_port, port.protocol) for port in spec.ports if port.host_port is not None)


def refusal(spec: ServiceSpec, node: NodeFacts, usage: Usage) -> str:
    """Why `node` cannot take one more copy of `spec`; empty when it can."""
    checks = (
        _refused_by_node(spec, node),
        _refused_by_placement(spec, node),
        _refused_by_room(spec, node, usage),
        _refused_by_ports(spec, usage),
    )
    return next((reason for reason in checks if reason), "")


def feasible_nodes(
    spec: ServiceSpec, nodes: Iterable[NodeFacts], usages: Mapping[NodeId, Usage]
) -> tuple[list[NodeFacts], dict[NodeId, str]]:
    """The nodes that can take one more copy, and why each other one cannot."""
    reasons = {node.id: refusal(spec, node, usages[node.id]) for node in nodes}
    return [node for node in nodes if not reasons[node.id]], {key: why for key, why in reasons.items() if why}


def _refused_by_node(spec: ServiceSpec, node: NodeFacts) -> str:
    if not node.accepts_work:
        return node.refusal or "takes no new work"
    for runtime in node.runtimes:
        if runtime.kind is spec.runtime:
            if runtime.is_available:
                return ""
            return f"{spec.runtime.value} is not available there: {runtime.reason or 'no reason known'}"
    return f"has no {spec.runtime.value} runtime"


def _refused_by_placement(spec: ServiceSpec, node: NodeFacts) -> str:
    placement = spec.placement
    if placement.node is not None and placement.node not in {node.id, node.name}:
        return f"is not the node {placement.node} that placement.node names"
    for key, value in placement.labels.items():
        if node.labels.get(key) != value:
            return f"label {key} is {node.labels.get(key, 'not set')}, placement.labels wants {value}"
    if placement.spread is not None and placement.spread not in node.labels:
        return f"has no label {placement.spread} to spread over"
    return ""


def _refused_by_room(spec: ServiceSpec, node: NodeFacts, usage: Usage) -> str:
    cpu, memory = spec.resources.cpu_milli or 0, spec.resources.memory_bytes or 0
    if usage.cpu_milli + cpu > node.cpu_milli:
        free = max(0, node.cpu_milli - usage.cpu_milli)
        return f"has {format_cpu(free)} of {format_cpu(node.cpu_milli)} cpu left, a copy wants {format_cpu(cpu)}"
    if usage.memory_bytes + memory > node.memory_bytes:
        free = max(0, node.memory_bytes - usage.memory_bytes)
        return (
            f"has {format_bytes(free)} of {format_bytes(node.memory_bytes)} memory left, "
            f"a copy wants {format_bytes(memory)}"
        )
    return ""


def _refused_by_ports(spec: ServiceSpec, usage: Usage) -> str:
    for published in published_ports(spec):
        if published in usage.host_ports:
            return f"host port {published[0]}/{published[1].value} is taken by {usage.host_ports[published]}"
    return ""
