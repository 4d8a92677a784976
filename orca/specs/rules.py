"""What a group of services must obey together: pure functions over finished specs.

Used on files by the loader, which adds lines, and by the node on what the API sends.
`existing` are the services that are deployed already; one of the same id is replaced
and does not count.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from orca.errors import Problem
from orca.model.ids import ServiceId, display_name, service_id
from orca.model.spec import DependencyCondition, PortSpec, ServiceSpec
from orca.specs.findings import Fault, shown
from orca.specs.limits import find_limit_faults
from orca.specs.section import suggestion

_ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::", "[::]"})  # noqa: S104 - compared, never bound


class GroupFault(msgspec.Struct, frozen=True):
    """A fault of the service at `index` of the group."""

    index: int
    fault: Fault


def check_services(specs: Iterable[ServiceSpec], existing: Iterable[ServiceSpec] = ()) -> tuple[Problem, ...]:
    """Everything wrong with `specs`, alone, together and beside `existing`; empty when all is well.

    The key of a problem is `services[<index>].<field>`.
    """
    return tuple(
        Problem(
            message=found.fault.message, key=f"services[{found.index}].{found.fault.path}", allowed=found.fault.allowed
        )
        for found in find_faults(tuple(specs), existing)
    )


def find_faults(specs: Sequence[ServiceSpec], existing: Iterable[ServiceSpec] = ()) -> Iterator[GroupFault]:
    """What `check_services` reports, by index and field."""
    replaced = {spec.id for spec in specs}
    others = tuple(spec for spec in existing if spec.id not in replaced)
    for index, spec in enumerate(specs):
        for fault in find_limit_faults(spec):
            yield GroupFault(index, fault)
    yield from _duplicates(specs)
    yield from _dependencies(specs, others)
    yield from _cycles(specs, others)
    yield from _route_conflicts(specs, others)
    yield from _host_port_conflicts(specs, others)


def _duplicates(specs: Sequence[ServiceSpec]) -> Iterator[GroupFault]:
    seen: set[ServiceId] = set()
    for index, spec in enumerate(specs):
        if spec.id in seen:
            message = f"service {shown(display_name(spec.id))} is defined twice"
            yield GroupFault(index, Fault("name", message, "a name that is unique in the project"))
        seen.add(spec.id)


def _dependencies(specs: Sequence[ServiceSpec], others: Sequence[ServiceSpec]) -> Iterator[GroupFault]:
    by_id = {spec.id: spec for spec in (*others, *specs)}
    for index, spec in enumerate(specs):
        seen: set[str] = set()
        for number, dependency in enumerate(spec.depends_on):
            path = f"depends_on[{number}]"
            name = shown(str(dependency.service))
            target = service_id(spec.project, dependency.service)
            if dependency.service in seen:
                yield GroupFault(index, Fault(path, f"{name} is given twice", "each service once"))
            seen.add(dependency.service)
            if target not in by_id:
                neighbours = (one for one in by_id.values() if one.project == spec.project and one.id != spec.id)
                names = sorted({str(one.name) for one in neighbours})
                message = f"service {name} does not exist in project {shown(str(spec.project))}"
                allowed = "one of " + ", ".join(names[:20]) if names else "a service of the same project"
                yield GroupFault(index, Fault(path, message + suggestion(dependency.service, names), allowed))
            elif dependency.condition is DependencyCondition.COMPLETED and not by_id[target].is_job:
                message = f"{name} restarts whenever it ends, so it never completes"
                allowed = f'restart = "never" or "on-failure" in {name}, or condition healthy'
                yield GroupFault(index, Fault(path, message, allowed))


def _cycles(specs: Sequence[ServiceSpec], others: Sequence[ServiceSpec]) -> Iterator[GroupFault]:
    """Every cycle once, at the first of its services in the group."""
    graph: dict[ServiceId, list[ServiceId]] = {}
    for spec in (*others, *specs):
        targets = (service_id(spec.project, dependency.service) for dependency in spec.depends_on)
        graph.setdefault(spec.id, []).extend(targets)  # a name given twice waits for what either waits for
    places = {spec.id: index for index, spec in reversed(list(enumerate(specs)))}
    done: set[ServiceId] = set()
    for start in (spec.id for spec in specs):
        if start in done:
            continue
        trail: list[ServiceId] = [start]
        on_trail = {start: 0}
        pending = [iter(graph[start])]
        while pending:
            target = next(pending[-1], None)
            if target is None:
                pending.pop()
                left = trail.pop()
                del on_trail[left]
                done.add(left)
            elif target in on_trail:
                yield from _cycle(trail[on_trail[target] :], specs, places)
            elif target in graph and target not in done:
                on_trail[target] = len(trail)
                trail.append(target)
                pending.append(iter(graph[target]))


def _cycle(
    members: list[ServiceId], specs: Sequence[ServiceSpec], places: dict[ServiceId, int]
) -> Iterator[GroupFault]:
    """The fault of one cycle; one that runs wholly through deployed services is not ours."""
    ours = [(places[member], at) for at, member in enumerate(members) if member in places]
    if not ours:
        return
    index, first = min(ours)
    ordered = members[first:] + members[:first]
    spec = specs[index]
    following = ordered[1 % len(ordered)]
    number = next((n for n, d in enumerate(spec.depends_on) if service_id(spec.project, d.service) == following), 0)
    names = [display_name(member) for member in (*ordered, ordered[0])]
    path = " → ".join(names if len(names) <= 12 else [*names[:10], "…", names[-1]])
    message = f"services wait for each other: {path}"
    yield GroupFault(index, Fault(f"depends_on[{number}]", message, "dependencies without a cycle"))


def _route_conflicts(specs: Sequence[ServiceSpec], others: Sequence[ServiceSpec]) -> Iterator[GroupFault]:
    taken: dict[tuple[str | None, str], tuple[ServiceId, bool]] = {}
    for other in others:
        for route in other.routes:
            taken[route.domain, route.path.rstrip("/")] = (other.id, True)
    for index, spec in enumerate(specs):
        for number, route in enumerate(spec.routes):
            place = (route.domain, route.path.rstrip("/"))
            if place not in taken:
                taken[place] = (spec.id, False)
                continue
            holder, is_deployed = taken[place]
            where = f"{route.domain or 'any domain'}{route.path}"
            who = "this service" if holder == spec.id else f"service {shown(display_name(holder))}"
            message = f"{where} already leads to {who}" + (", which is deployed" if is_deployed else "")
            yield GroupFault(index, Fault(f"routes[{number}]", message, "each domain and path for one service only"))


def _host_port_conflicts(specs: Sequence[ServiceSpec], others: Sequence[ServiceSpec]) -> Iterator[GroupFault]:
    taken: dict[tuple[int, str], list[tuple[str, ServiceId, bool]]] = {}
    for other in others:
        for port in _published(other):
            taken.setdefault(_socket(port), []).append((port.host_ip, other.id, True))
    for index, spec in enumerate(specs):
        for number, port in enumerate(spec.ports):
            if port.host_port is None:
                continue
            holders = taken.setdefault(_socket(port), [])
            for address, holder, is_deployed in holders:
                if address == port.host_ip or _ANY_ADDRESS & {address, port.host_ip}:
                    who = "this service" if holder == spec.id else f"service {shown(display_name(holder))}"
                    message = f"host port {port.host_port}/{port.protocol.value} is already published by {who}"
                    message += ", which is deployed" if is_deployed else ""
                    yield GroupFault(index, Fault(f"ports[{number}]", message, "a host port of its own"))
                    break
            holders.append((port.host_ip, spec.id, False))


def _published(spec: ServiceSpec) -> Iterator[PortSpec]:
    return (port for port in spec.ports if port.host_port is not None)


def _socket(port: PortSpec) -> tuple[int, str]:
    assert port.host_port is not None, "only published ports take a socket of the node"
    return port.host_port, port.protocol.value
