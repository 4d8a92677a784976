"""From services to a table that says where a request goes: pure, immutable, swapped whole."""

import ipaddress
from collections.abc import Iterable

import msgspec

from node.proxy.shares import turns_of
from orca.model.ids import AllocationId, NodeId, ServiceId, SpecRevision
from orca.model.spec import RouteSpec


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A ready instance of `revision`: its `port` is at `host`:`host_port` on its own node; `node` None is this one."""

    allocation: AllocationId
    revision: SpecRevision = SpecRevision(0)
    node: NodeId | None = None
    port: int
    host: str
    host_port: int


class RoutedService(msgspec.Struct, frozen=True, kw_only=True):
    """A service with routes and those of its instances that are ready now.

    `main_port` is meant by routes that name none; None when the service has no port. `weights` says how many
    percent of the requests go to each revision; without any, all targets are equal. While no instance is ready, up
    to `queue_max` requests wait for one, each for `queue_timeout_s`. With `to_https` requests in the clear are sent to
    HTTPS where their domain has a certificate.
    """

    service: ServiceId
    routes: tuple[RouteSpec, ...]
    main_port: int | None
    targets: tuple[Target, ...] = ()
    weights: dict[SpecRevision, int] = {}
    drain_timeout_s: float = 10.0
    queue_timeout_s: float = 0.0
    queue_max: int = 0
    to_https: bool = False


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where one domain and path prefix goes. No `targets`: the service is known, nobody is ready.

    `prefix` has no slash at its end; the root is the empty string. Where revisions have weights, `turns` says which of
    them takes each of so many requests, and `of_revision` has their targets; otherwise both are empty.
    """

    service: ServiceId
    prefix: str
    strip_path: bool = False
    targets: tuple[Target, ...] = ()
    turns: tuple[SpecRevision, ...] = ()
    of_revision: dict[SpecRevision, tuple[Target, ...]] = {}
    drain_timeout_s: float = 10.0
    queue_timeout_s: float = 0.0
    queue_max: int = 0
    to_https: bool = False

    def forwarded_target(self, target: str) -> str:
        """The origin-form `target` as the workload sees it, cut if the route strips."""
        if not self.strip_path or not self.prefix or not target.startswith(self.prefix):
            return target
        rest = target[len(self.prefix) :]
        return rest if rest.startswith("/") else "/" + rest


class _Segment:
    """One path segment of the tree: the route that ends here, and what may follow."""

    __slots__ = ("children", "route")

    def __init__(self) -> None:
        self.route: Route | None = None
        self.children: dict[str, _Segment] = {}


class RouteTable:
    """All routes of the node; never changed after `build_route_table` made it."""

    __slots__ = ("_any_domain", "_domains", "_has_wildcards", "_targets", "revision")

    def __init__(self, revision: int, domains: dict[str, _Segment], any_domain: _Segment) -> None:
        self.revision = revision
        self._domains = domains
        self._has_wildcards = any(name.startswith("*.") for name in domains)
        self._any_domain = any_domain
        self._targets = tuple(sorted({t for route in self.routes() for t in route.targets}, key=_target_order))

    def match(self, host: str, path: str) -> Route | None:
        """The route for a request to `host` (as in a Host field) and `path` (no query).

        A domain beats `*.domain`, of which the closest beats the others, and both beat any domain; then the longest
        prefix of whole segments wins. None when nothing fits. Costs the length of both, whatever the number of routes.
        """
        return self.find(normalize_host(host), path)

    def find(self, host: str, path: str) -> Route | None:
        """The same for a `host` that is normalized already."""
        segments = path[1:].split("/")
        tree = self._domains.get(host)
        found = None if tree is None else _longest(tree, segments)
        if found is None and self._has_wildcards:
            found = self._find_wildcard(host, segments)
        return found if found is not None else _longest(self._any_domain, segments)

    def _find_wildcard(self, host: str, segments: list[str]) -> Route | None:
        """The route of the closest `*.domain` above `host` that has one for the path."""
        _, dot, parent = host.partition(".")
        while dot:
            tree = self._domains.get(f"*.{parent}")
            found = None if tree is None else _longest(tree, segments)
            if found is not None:
                return found
            _, dot, parent = parent.partition(".")
        return None

    def targets(self) -> tuple[Target, ...]:
        """Every target that some route leads to, each once, in a fixed order."""
        return self._targets

    def routes(self) -> tuple[Route, ...]:
        """Every route, domains in order, those for any domain last."""
        found: list[Route] = []
        pending = [self._any_domain, *(self._domains[name] for name in sorted(self._domains, reverse=True))]
        while pending:
            segment = pending.pop()
            if segment.route is not None:
                found.append(segment.route)
            pending.extend(segment.children[name] for name in sorted(segment.children, reverse=True))
        return tuple(found)


def _target_order(target: Target) -> tuple[str, int, str, int]:
    return (target.allocation, target.port, target.host, target.host_port)


def _longest(tree: _Segment, segments: list[str]) -> Route | None:
    found = tree.route
    for segment in segments:
        child = tree.children.get(segment)
        if child is None:
            break
        tree = child
        if tree.route is not None:
            found = tree.route
    return found


def normalize_host(host: str) -> str:
    """`host` as the table knows it: lower case, no port, no dot at the end.

    IPv6 literals keep their brackets and come in the short spelling of RFC 5952.
    """
    name = host.strip().lower()
    if name.startswith("["):
        literal, _, _ = name[1:].partition("]")
        return _ipv6_name(literal)
    if name.count(":") > 1:
        return _ipv6_name(name)
    return name.partition(":")[0].removesuffix(".")


def _ipv6_name(literal: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(literal).compressed}]"
    except ValueError:
        return f"[{literal}]"


def normalize_prefix(path: str) -> str:
    """`path` of a route without `/*` or slashes at its end: `/api/*` and `/api/` are `/api`."""
    trimmed = path.strip()
    if trimmed.endswith("/*") or trimmed == "*":
        trimmed = trimmed[:-1]
    trimmed = trimmed.strip("/")
    return f"/{trimmed}" if trimmed else ""


def build_route_table(services: Iterable[RoutedService], revision: int = 0) -> RouteTable:
    """The table of `services`, whatever their order.

    Where two services claim one domain and path the lower service id has it, so that
    every node decides alike; the API refuses such specs before they come here.
    """
    domains: dict[str, _Segment] = {}
    any_domain = _Segment()
    for service in sorted(services, key=lambda one: one.service):
        for spec in service.routes:
            is_any = spec.domain is None
            tree = any_domain if is_any else domains.setdefault(normalize_host(spec.domain or ""), _Segment())
            _insert(tree, _route_of(service, spec))
    return RouteTable(revision, domains, any_domain)


def _route_of(service: RoutedService, spec: RouteSpec) -> Route:
    port = spec.port if spec.port is not None else service.main_port
    targets = tuple(sorted((t for t in service.targets if t.port == port), key=_target_order))
    sharing = {t.revision for t in targets if service.weights.get(t.revision, 0) > 0}
    turns = turns_of({revision: service.weights[revision] for revision in sorted(sharing)}) if sharing else ()
    return Route(
        service=service.service,
        prefix=normalize_prefix(spec.path),
        strip_path=spec.strip_path,
        targets=targets,
        turns=turns,
        of_revision={revision: tuple(t for t in targets if t.revision == revision) for revision in sorted(sharing)},
        drain_timeout_s=service.drain_timeout_s,
        queue_timeout_s=service.queue_timeout_s,
        queue_max=service.queue_max,
        to_https=service.to_https,
    )


def _insert(tree: _Segment, route: Route) -> None:
    for segment in route.prefix.split("/")[1:]:
        tree = tree.children.setdefault(segment, _Segment())
    if tree.route is None:
        tree.route = route
