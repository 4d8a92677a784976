"""Which nodes may take a copy, and for every refusal the reason."""

import enum
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from orca.model.ids import NodeId, ServiceId
from orca.model.node import NodeFacts
from orca.model.spec import Protocol, ServiceSpec
from orca.model.units import format_bytes, format_cpu

PublishedPort = tuple[int, Protocol]


class Outlook(enum.Enum):
    """Whether a refusal may end without anybody doing something about it."""

    PASSING = "passing"
    ENGINE_AWAY = "engine away"
    LASTING = "lasting"


class Refusal(msgspec.Struct, frozen=True):
    """Why a node cannot take one more copy."""

    reason: str
    outlook: Outlook = Outlook.PASSING


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """Why a service waits, and for how long it is worth waiting (None: as long as any rollout may take)."""

    reason: str = ""
    patience_ms: int | None = None


PATIENCE_MS: Final = {Outlook.LASTING: 3_000, Outlook.ENGINE_AWAY: 15_000}
"""How long it is waited for what no node can take. Nothing makes a node larger, so this is
only the time in which a leader hears of all nodes; an engine that is restarted is back in 15 s."""


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


def refusal(spec: ServiceSpec, node: NodeFacts, usage: Usage) -> Refusal | None:
    """Why `node` cannot take one more copy of `spec`; None when it can. What lasts is said first."""
    found = (
        _refused_by_kind(spec, node),
        _refused_by_placement(spec, node),
        _refused_by_size(spec, node),
        _refused_by_node(spec, node),
        _refused_by_room(spec, node, usage),
        _refused_by_ports(spec, usage),
    )
    return next((one for one in found if one is not None), None)


def feasible_nodes(
    spec: ServiceSpec, nodes: Iterable[NodeFacts], usages: Mapping[NodeId, Usage]
) -> tuple[list[NodeFacts], dict[NodeId, Refusal]]:
    """The nodes that can take one more copy, and why each other one cannot."""
    candidates: list[NodeFacts] = []
    refusals: dict[NodeId, Refusal] = {}
    for node in nodes:
        found = refusal(spec, node, usages[node.id])
        if found is None:
            candidates.append(node)
        else:
            refusals[node.id] = found
    return candidates, refusals


def patience_ms(refusals: Iterable[Refusal]) -> int | None:
    """How long to wait for a node when these are all there are; the one that ends soonest counts."""
    outlooks = [one.outlook for one in refusals]
    if not outlooks or Outlook.PASSING in outlooks:
        return None
    return max(PATIENCE_MS[one] for one in outlooks)


def _refused_by_kind(spec: ServiceSpec, node: NodeFacts) -> Refusal | None:
    # A node that has not yet looked what it has tells of no runtime at all.
    if not node.runtimes or any(runtime.kind is spec.runtime for runtime in node.runtimes):
        return None
    return Refusal(f"has no {spec.runtime.value} runtime", Outlook.LASTING)


def _refused_by_node(spec: ServiceSpec, node: NodeFacts) -> Refusal | None:
    if not node.accepts_work:
        return Refusal(node.refusal or "takes no new work")
    for runtime in node.runtimes:
        if runtime.kind is spec.runtime:
            if runtime.is_available:
                return None
            why = runtime.reason or "no reason known"
            return Refusal(f"{spec.runtime.value} is not available there: {why}", Outlook.ENGINE_AWAY)
    return Refusal(f"has no {spec.runtime.value} runtime")


def _refused_by_placement(spec: ServiceSpec, node: NodeFacts) -> Refusal | None:
    placement = spec.placement
    if placement.node is not None and placement.node not in {node.id, node.name}:
        return Refusal(f"is not the node {placement.node} that placement.node names", Outlook.LASTING)
    for key, value in placement.labels.items():
        if node.labels.get(key) != value:
            has = node.labels.get(key, "not set")
            return Refusal(f"label {key} is {has}, placement.labels wants {value}", Outlook.LASTING)
    if placement.spread is not None and placement.spread not in node.labels:
        return Refusal(f"has no label {placement.spread} to spread over", Outlook.LASTING)
    return None


def _refused_by_size(spec: ServiceSpec, node: NodeFacts) -> Refusal | None:
    """What a copy wants, against all that the node has."""
    cpu, memory = spec.resources.cpu_milli or 0, spec.resources.memory_bytes or 0
    if cpu > node.cpu_milli:
        return Refusal(f"has {format_cpu(node.cpu_milli)} cpu, a copy wants {format_cpu(cpu)}", Outlook.LASTING)
    if memory > node.memory_bytes:
        has, wants = format_bytes(node.memory_bytes), format_bytes(memory)
        return Refusal(f"has {has} memory, a copy wants {wants}", Outlook.LASTING)
    return None


def _refused_by_room(spec: ServiceSpec, node: NodeFacts, usage: Usage) -> Refusal | None:
    cpu, memory = spec.resources.cpu_milli or 0, spec.resources.memory_bytes or 0
    if usage.cpu_milli + cpu > node.cpu_milli:
        free = max(0, node.cpu_milli - usage.cpu_milli)
        return Refusal(
            f"has {format_cpu(free)} of {format_cpu(node.cpu_milli)} cpu left, a copy wants {format_cpu(cpu)}"
        )
    if usage.memory_bytes + memory > node.memory_bytes:
        free = max(0, node.memory_bytes - usage.memory_bytes)
        return Refusal(
            f"has {format_bytes(free)} of {format_bytes(node.memory_bytes)} memory left, "
            f"a copy wants {format_bytes(memory)}"
        )
    return None


def _refused_by_ports(spec: ServiceSpec, usage: Usage) -> Refusal | None:
    for published in published_ports(spec):
        if published in usage.host_ports:
            port, protocol = published
            return Refusal(f"host port {port}/{protocol.value} is taken by {usage.host_ports[published]}")
    return None
