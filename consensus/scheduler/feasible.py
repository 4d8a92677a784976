"""Which nodes may take a copy, and for every refusal the reason."""

import enum
from collections.abc import Iterable
from typing import Final

import msgspec

from consensus.scheduler.site import Site
from orca.model.constraint import attribute_of, parse_constraint, shown_attribute
from orca.model.ids import NodeId, ServiceId, service_id
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
    host_ports: dict[PublishedPort, list[ServiceId]] = {}

    def add(self, spec: ServiceSpec, number: int = 1) -> None:
        """Count `number` more copies of `spec`."""
        service, resources = spec.id, spec.resources
        self.cpu_milli += number * (resources.cpu_milli or 0)
        self.memory_bytes += number * (resources.memory_bytes or 0)
        self.copies[service] = self.copies.get(service, 0) + number
        for published in published_ports(spec) if spec.ports else ():
            self.host_ports.setdefault(published, []).append(service)

    def remove(self, spec: ServiceSpec, number: int = 1) -> None:
        """Count them no more; undoes `add` of the same."""
        self.cpu_milli -= number * (spec.resources.cpu_milli or 0)
        self.memory_bytes -= number * (spec.resources.memory_bytes or 0)
        left = self.copies[spec.id] - number
        if left:
            self.copies[spec.id] = left
        else:
            del self.copies[spec.id]
        for published in published_ports(spec):
            holders = self.host_ports[published]
            holders.remove(spec.id)
            if not holders:
                del self.host_ports[published]


class Bounds(msgspec.Struct, frozen=True):
    """A copy that can run on certain nodes only, and why."""

    nodes: frozenset[NodeId]
    reason: str


def published_ports(spec: ServiceSpec) -> tuple[PublishedPort, ...]:
    """The host ports that each copy of `spec` takes on its node."""
    return tuple((port.host_port, port.protocol) for port in spec.ports if port.host_port is not None)


def refusal(spec: ServiceSpec, site: Site, usage: Usage, bounds: Bounds | None = None) -> Refusal | None:
    """Why `site` cannot take one more copy of `spec`; None when it can. What lasts is said first."""
    return (
        lasting_refusal(spec, site)
        or _refused_by_bounds(site, bounds)
        or _refused_by_node(spec, site)
        or present_refusal(spec, site, usage)
    )


def present_refusal(spec: ServiceSpec, site: Site, usage: Usage) -> Refusal | None:
    """Why what runs on `site` leaves no place for a copy of `spec`: all that one more copy can change."""
    return (
        _refused_by_room(spec, site.facts, usage)
        or _refused_by_ports(spec, usage)
        or _refused_by_neighbours(spec, usage)
    )


def lasting_refusal(spec: ServiceSpec, site: Site) -> Refusal | None:
    """Why `site` can take no copy of `spec`, whatever else runs there."""
    return (
        _refused_by_kind(spec, site.facts)
        or _refused_by_placement(spec, site)
        or _refused_by_constraints(spec, site)
        or _refused_by_size(spec, site.facts)
    )


def misplacement(spec: ServiceSpec, site: Site) -> str:
    """Why a copy of `spec` that runs on `site` belongs elsewhere; empty when it is right there."""
    found = _refused_by_placement(spec, site) or _refused_by_constraints(spec, site)
    return "" if found is None else found.reason


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


def _refused_by_bounds(site: Site, bounds: Bounds | None) -> Refusal | None:
    if bounds is None or site.id in bounds.nodes:
        return None
    return Refusal(f"{bounds.reason}", Outlook.LASTING)


def _refused_by_node(spec: ServiceSpec, site: Site) -> Refusal | None:
    node = site.facts
    if site.closed:
        return Refusal(site.closed)
    if not node.accepts_work:
        return Refusal(node.refusal or "takes no new work")
    for runtime in node.runtimes:
        if runtime.kind is spec.runtime:
            if runtime.is_available:
                return None
            why = runtime.reason or "no reason known"
            return Refusal(f"{spec.runtime.value} is not available there: {why}", Outlook.ENGINE_AWAY)
    return Refusal(f"has no {spec.runtime.value} runtime")


def _refused_by_placement(spec: ServiceSpec, site: Site) -> Refusal | None:
    placement, node, labels = spec.placement, site.facts, site.labels
    if placement.node is not None and placement.node not in {node.id, node.name}:
        return Refusal(f"is not the node {placement.node} that placement.node names", Outlook.LASTING)
    for key, value in placement.labels.items():
        if labels.get(key) != value:
            has = labels.get(key, "not set")
            return Refusal(f"label {key} is {has}, placement.labels wants {value}", Outlook.LASTING)
    if placement.spread is not None and placement.spread not in labels:
        return Refusal(f"has no label {placement.spread} to spread over", Outlook.LASTING)
    return None


def _refused_by_constraints(spec: ServiceSpec, site: Site) -> Refusal | None:
    for text in spec.placement.constraints:
        constraint = parse_constraint(text)
        value = attribute_of(site.facts, site.labels, constraint.attribute)
        if not constraint.holds_for(value):
            has = "not set" if value is None else value or "empty"
            return Refusal(f"{shown_attribute(constraint.attribute)} is {has}, wanted is {text}", Outlook.LASTING)
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
    for published in published_ports(spec) if spec.ports else ():
        if published in usage.host_ports:
            port, protocol = published
            return Refusal(f"host port {port}/{protocol.value} is taken by {usage.host_ports[published][0]}")
    return None


def _refused_by_neighbours(spec: ServiceSpec, usage: Usage) -> Refusal | None:
    placement = spec.placement
    most = placement.copies_per_node_max
    if most is not None and (present := usage.copies.get(spec.id, 0)) >= most:
        return Refusal(f"has {present} of at most {most} copies of it")
    for name in placement.beside:
        if service_id(spec.project, name) not in usage.copies:
            return Refusal(f"has no copy of {name}, which it is to run beside")
    for name in placement.apart_from:
        if service_id(spec.project, name) in usage.copies:
            return Refusal(f"has a copy of {name}, which it is to be apart from")
    return None
