"""The parts of a `[[service]]` table: ports, routes, probes, mounts, rollout, and so on."""

import math
import re
from collections.abc import Callable
from typing import Any, Final

from orca.model.ids import ServiceName
from orca.model.spec import (
    DependencyCondition,
    DependencySpec,
    DeploySpec,
    DeployStrategy,
    ExecCheck,
    FileSpec,
    HealthCheck,
    HttpCheck,
    LogSpec,
    MountKind,
    MountSpec,
    PortSpec,
    ProbeSpec,
    Protocol,
    Resources,
    RestartPolicy,
    RestartSpec,
    RouteSpec,
    TcpCheck,
    Ulimit,
    UpdateOrder,
)
from orca.specs.findings import shown
from orca.specs.ports import PORT_ALLOWED, parse_ports
from orca.specs.reading import Context, note_origins
from orca.specs.section import Item, Section, suggestion
from orca.specs.words import clean_target, read_argv, read_mode, read_volume, resolve_path

_PERCENT: Final = re.compile(r"([0-9]{1,3})%")
_PROBE_KEYS: Final = (
    "http",
    "tcp",
    "exec",
    "port",
    "host",
    "interval",
    "timeout",
    "initial_delay",
    "success_threshold",
    "failure_threshold",
)


def read_ports(section: Section, origins: dict[str, Item]) -> tuple[PortSpec, ...]:
    """`port` or `ports`, in the order of the file; the first is the main port."""
    given = section.exclusive("port", "ports")
    found: list[PortSpec] = []
    for item in [] if given is None else given.items_or_one():
        for port in _port(item):
            origins[f"ports[{len(found)}]"] = item
            found.append(port)
    return tuple(found)


def _port(item: Item) -> tuple[PortSpec, ...]:
    if item.is_table:
        table = Section(item, ("port", "host_port", "host_ip", "protocol"))
        port = table.read("port", Item.integer, None)
        if port is None:
            if not table.has("port"):
                item.refuse("the port has no number", "{ port = 80 }")
            return ()
        protocol = table.read("protocol", lambda one: one.choice({p.value: p for p in Protocol}), Protocol.TCP)
        host_port = table.read("host_port", Item.integer, None)
        made = PortSpec(port=port, protocol=protocol, host_port=host_port)
        host_ip = table.read("host_ip", Item.text, None)
        return (
            made if host_ip is None else PortSpec(port=port, protocol=protocol, host_port=host_port, host_ip=host_ip),
        )
    if isinstance(item.node.value, str):
        try:
            return parse_ports(item.node.value)
        except ValueError as problem:
            item.refuse(str(problem), PORT_ALLOWED)
            return ()
    number = item.integer()
    return () if number is None else (PortSpec(port=number),)


def read_routes(section: Section, origins: dict[str, Item]) -> tuple[RouteSpec, ...]:
    """Routes from `domain`/`domains`, `path`, `triggers` and `routes` together."""
    found: list[RouteSpec] = []

    def add(item: Item, route: RouteSpec) -> None:
        origins[f"routes[{len(found)}]"] = item
        found.append(route)

    domain = section.exclusive("domain", "domains")
    domains = [] if domain is None else [(item, text) for item in domain.items_or_one() if (text := item.text())]
    path = section.get("path")
    triggers = [] if (given := section.get("triggers")) is None else given.items()
    prefixes = [(item, prefix) for item in triggers if (prefix := _trigger(item)) is not None]
    if path is not None and (prefix := path.filled_text()) is not None:
        prefixes.insert(0, (path, clean_prefix(prefix)))
    if not prefixes and not triggers and path is None:
        for item, name in domains:
            add(item, RouteSpec(domain=name.lower()))
    for place, prefix in prefixes:
        for item, name in domains:
            add(item if place is path else place, RouteSpec(domain=name.lower(), path=prefix))
        if not domains:
            add(place, RouteSpec(path=prefix))
    listed = [] if (given := section.get("routes")) is None else given.items()
    for item in listed:
        table = Section(item, ("domain", "path", "strip_path", "port"))
        host = table.read("domain", Item.text, None)
        route = RouteSpec(
            domain=None if host is None else host.lower(),
            path=clean_prefix(table.read("path", Item.filled_text, "/")),
            strip_path=table.read("strip_path", Item.boolean, False),
            port=table.read("port", Item.integer, None),
        )
        for field in ("domain", "path", "port"):
            if (entry := table.get(field)) is not None:
                origins[f"routes[{len(found)}].{field}"] = entry
        add(item, route)
    return tuple(found)


def clean_prefix(path: str) -> str:
    """A path prefix without its trailing slashes, which would not change what it matches."""
    return path.rstrip("/") or ("/" if path else path)


def _trigger(item: Item) -> str | None:
    text = item.filled_text()
    if text is None:
        return None
    kind, mark, pattern = text.partition(":")
    if not mark or kind != "http":
        name = shown(f"{kind}:" if mark else text)
        item.refuse(f"trigger {name} is not supported{suggestion(kind, ('http',))}", '"http:/path" or "http:/path/*"')
        return None
    prefix = pattern.removesuffix("*")
    if not prefix.startswith("/") or "*" in prefix:
        item.refuse(f"{shown(text)} is no path pattern", '"http:/path" or "http:/path/*"')
        return None
    return clean_prefix(prefix)


def read_probes(section: Section, origins: dict[str, Item], ports: tuple[PortSpec, ...]) -> dict[str, ProbeSpec]:
    """The probes of a service by field name.

    `health` sets readiness and liveness; a table of its own replaces either; `false`
    leaves it out. With a TCP port and no word on health or readiness, the service is ready
    when its first TCP port accepts a connection, asked every 5 s.
    """
    found: dict[str, ProbeSpec] = {}
    health = section.get("health")
    if health is not None and not health.is_false:
        probe = _health(health)
        for name in ("readiness", "liveness"):
            note_origins(origins, name, health)
            if probe is not None:
                found[name] = probe
    for name in ("startup", "readiness", "liveness"):
        item = section.get(name)
        if item is None:
            continue
        found.pop(name, None)
        note_origins(origins, name, item)
        if not item.is_false and (probe := _probe(item)) is not None:
            found[name] = probe
    if health is None and section.get("readiness") is None:
        default = default_readiness(ports)
        if default is not None:
            found["readiness"] = default
    return found


def default_readiness(ports: tuple[PortSpec, ...]) -> ProbeSpec | None:
    """A TCP probe of the first TCP port; None without one."""
    for index, port in enumerate(ports):
        if port.protocol is Protocol.TCP:
            return ProbeSpec(check=TcpCheck(port=None if index == 0 else port.port))
    return None


def _health(item: Item) -> ProbeSpec | None:
    if item.is_table:
        return _probe(item)
    path = item.filled_text()
    return None if path is None else ProbeSpec(check=HttpCheck(path=path))


def _probe(item: Item) -> ProbeSpec | None:
    if not item.is_table:
        item.refuse("a probe is a table", '{ http = "/healthz" }, { tcp = 5432 }, { exec = ["pg_isready"] } or false')
        return None
    table = Section(item, _PROBE_KEYS)
    check = _check(item, table)
    if check is None:
        return None
    return ProbeSpec(
        check=check,
        interval_s=table.read("interval", Item.duration, 5.0),
        timeout_s=table.read("timeout", Item.duration, 2.0),
        initial_delay_s=table.read("initial_delay", Item.duration, 0.0),
        success_threshold=table.read("success_threshold", Item.integer, 1),
        failure_threshold=table.read("failure_threshold", Item.integer, 3),
    )


def _check(item: Item, table: Section) -> HealthCheck | None:
    kind = table.exclusive("http", "tcp", "exec")
    port, host = table.get("port"), table.get("host")
    number = None if port is None else port.integer()
    if kind is None:
        item.refuse("the probe has no kind", 'http = "/healthz", tcp = 5432 or exec = ["pg_isready"]')
        return None
    if host is not None and kind is not table.get("http"):
        host.refuse("only an http probe has a host", 'http = "/healthz" beside it')
    if kind is table.get("http"):
        path = kind.filled_text()
        return None if path is None else HttpCheck(path=path, port=number, host=None if host is None else host.text())
    if kind is table.get("tcp"):
        if kind.node.value is True:
            return TcpCheck(port=number)
        if port is not None:
            port.refuse("the port is given twice", "tcp = 5432, or tcp = true with port")
        return TcpCheck(port=kind.integer())
    if port is not None:
        port.refuse("an exec probe has no port", "no port, or an http or tcp probe")
    command = read_argv(kind)
    return None if command is None else ExecCheck(command=command)


def read_mounts(section: Section, origins: dict[str, Item], context: Context) -> tuple[MountSpec, ...]:
    """`volumes` (short strings) and `mounts` (tables), in this order."""
    found: list[MountSpec] = []

    def add(item: Item, mount: MountSpec | None) -> None:
        if mount is not None:
            origins[f"mounts[{len(found)}]"] = item
            found.append(mount)

    for item in [] if (volumes := section.get("volumes")) is None else volumes.items():
        mount = read_volume(item, context.directory, context.environment)
        if mount is not None and not mount.source:
            item.refuse("the volume has no name", "name:/path, for example data:/var/lib/data")
            mount = None
        add(item, mount)
    for item in [] if (mounts := section.get("mounts")) is None else mounts.items():
        add(item, _mount(item, context))
    return tuple(found)


def _mount(item: Item, context: Context) -> MountSpec | None:
    table = Section(item, ("kind", "source", "target", "read_only", "size"))
    kind = table.read("kind", lambda one: one.choice({k.value: k for k in MountKind}), MountKind.VOLUME)
    target = table.read("target", Item.filled_text, None)
    source = table.read("source", Item.text, "")
    if target is None:
        if not table.has("target"):
            item.refuse("the mount has no target", 'target = "/path/in/the/container"')
        return None
    given = table.get("source")
    if kind is MountKind.BIND and given is not None:
        source = resolve_path(given, source, context.directory, context.environment) or source
    return MountSpec(
        target=clean_target(target),
        kind=kind,
        source=source,
        read_only=table.read("read_only", Item.boolean, False),
        size_bytes=table.read("size", Item.size, None),
    )


def read_files(section: Section, origins: dict[str, Item], context: Context) -> tuple[FileSpec, ...]:
    """`files`: a table from target to `"path"` or a table with `path`, `text`, `secret` or `fence`."""
    found: list[FileSpec] = []
    for target, item in [] if (files := section.get("files")) is None else files.entries():
        file = _read_file(target, item, context)
        if file is not None:
            origins[f"files[{len(found)}]"] = item
            found.append(file)
    return tuple(found)


def _read_file(target: str, item: Item, context: Context) -> FileSpec | None:
    """One entry of `files`; None after recording what is wrong with it."""
    mode, key, source = 0o444, "path", item if not item.is_table else None
    if item.is_table:
        table = Section(item, ("path", "text", "secret", "fence", "mode"))
        source = table.exclusive("path", "text", "secret", "fence")
        key = next(
            (name for name in ("path", "text", "secret") if source is not None and source is table.get(name)), ""
        )
        mode = table.read("mode", read_mode, 0o444)
        if table.read("fence", Item.boolean, False):
            return FileSpec(target=target, is_fence=True, mode=mode)
    if source is None:
        item.refuse("the file has no content", '{ path = "./app.conf" }, { text = "…" } or { secret = "NAME" }')
        return None
    text = source.text()
    if text is None:
        return None
    if key == "secret":
        return FileSpec(target=target, secret=text, mode=mode)
    content = text.encode() if key == "text" else context.files.load(source, text)
    return None if content is None else FileSpec(target=target, content=context.files.keep(content), mode=mode)


def read_env(item: Item) -> dict[str, str]:
    """A table of strings; whole numbers are written out, anything else would be a guess."""
    found: dict[str, str] = {}
    for name, entry in item.entries():
        value = entry.node.value
        if isinstance(value, int) and not isinstance(value, bool):
            number = entry.integer()
            found[name] = "" if number is None else str(number)
        elif (text := entry.text()) is not None:
            found[name] = text
    return found


def read_resources(item: Item) -> Resources:
    """`{ cpu, memory, pids }`."""
    table = Section(item, ("cpu", "memory", "pids"))
    return Resources(
        cpu_milli=table.read("cpu", Item.cpu, None),
        memory_bytes=table.read("memory", Item.size, None),
        pids_max=table.read("pids", Item.integer, None),
    )


def read_restart(item: Item) -> RestartSpec | None:
    """A policy by name, or `{ policy, attempts_max }`."""
    policies = {policy.value: policy for policy in RestartPolicy}
    if not item.is_table:
        policy = item.choice(policies)
        return None if policy is None else RestartSpec(policy=policy)
    table = Section(item, ("policy", "attempts_max"))
    return RestartSpec(
        policy=table.read("policy", lambda one: one.choice(policies), RestartPolicy.ALWAYS),
        attempts_max=table.read("attempts_max", Item.integer, None),
    )


def read_deploy(item: Item | None, replicas: int, *, publishes: bool) -> DeploySpec:
    """How to roll out; `max_surge` and `max_unavailable` may be shares of the replicas.

    A service that publishes a host port is replaced stop-first unless the file says
    otherwise: two copies cannot hold one port of a node. Stop-first alone means one copy
    less meanwhile and none above.
    """
    keys = (
        *("strategy", "order", "max_surge", "max_unavailable", "min_healthy_time", "deadline"),
        *("canary_copies", "canary_percent", "auto_promote", "keep_old", "auto_rollback"),
    )
    plain: dict[str, Any] = {}
    if item is not None:
        table = Section(item, keys)
        readers: dict[str, tuple[str, Callable[[Item], Any]]] = {
            "strategy": ("strategy", lambda one: one.choice({way.value: way for way in DeployStrategy})),
            "canary_copies": ("canary_copies", lambda one: _share(one, replicas, math.ceil)),
            "canary_percent": ("canary_percent", Item.integer),
            "auto_promote": ("auto_promote_s", Item.duration),
            "keep_old": ("keep_old_s", Item.duration),
            "auto_rollback": ("auto_rollback", Item.boolean),
            "order": ("order", lambda one: one.choice({order.value: order for order in UpdateOrder})),
            "max_surge": ("max_surge", lambda one: _share(one, replicas, math.ceil)),
            "max_unavailable": ("max_unavailable", lambda one: _share(one, replicas, math.floor)),
            "min_healthy_time": ("min_healthy_time_s", Item.duration),
            "deadline": ("deadline_s", Item.duration),
        }
        for key, (field, parse) in readers.items():
            value = table.read(key, parse, None)
            if value is not None:
                plain[field] = value
    return make_deploy(plain, publishes=publishes)


def make_deploy(plain: dict[str, Any], *, publishes: bool) -> DeploySpec:
    """A rollout of the fields that are given, the rest by what fits them."""
    order = plain.setdefault("order", UpdateOrder.STOP_FIRST if publishes else UpdateOrder.START_FIRST)
    if order is UpdateOrder.STOP_FIRST:
        plain.setdefault("max_unavailable", 1)
        plain.setdefault("max_surge", 0)
    return DeploySpec(**plain)


def _share(item: Item, replicas: int, to_whole: Callable[[float], int]) -> int | None:
    value = item.node.value
    if not isinstance(value, str):
        return item.integer()
    match = _PERCENT.fullmatch(value)
    if match is None or int(match[1]) > 100:
        item.refuse(f"{shown(value)} is no share of the replicas", 'a number of copies, or "0%" to "100%"')
        return None
    return to_whole(replicas * int(match[1]) / 100)


def read_dependencies(item: Item, origins: dict[str, Item]) -> tuple[DependencySpec, ...]:
    """A list of names, or a table from name to condition."""
    conditions = {condition.value: condition for condition in DependencyCondition}
    found: list[DependencySpec] = []
    if not item.is_table:
        for entry in item.items_or_one():
            name = entry.text()
            if name is not None:
                origins[f"depends_on[{len(found)}]"] = entry
                found.append(DependencySpec(service=ServiceName(name)))
        return tuple(found)
    for name, entry in item.entries():
        origins[f"depends_on[{len(found)}]"] = entry
        if entry.is_table:
            table = Section(entry, ("condition",))
            condition = table.read("condition", lambda one: one.choice(conditions), DependencyCondition.STARTED)
        else:
            condition = entry.choice(conditions) or DependencyCondition.STARTED
        found.append(DependencySpec(service=ServiceName(name), condition=condition))
    return tuple(found)


def read_log(item: Item) -> LogSpec:
    """`{ max_size, files }`."""
    table = Section(item, ("max_size", "files"))
    default = LogSpec()
    return LogSpec(
        file_bytes_max=table.read("max_size", Item.size, default.file_bytes_max),
        files_max=table.read("files", Item.integer, default.files_max),
    )


def read_ulimits(item: Item) -> tuple[Ulimit, ...]:
    """A table from name to one number or `{ soft, hard }`."""
    found = []
    for name, entry in item.entries():
        if entry.is_table:
            table = Section(entry, ("soft", "hard"))
            soft, hard = table.read("soft", Item.integer, None), table.read("hard", Item.integer, None)
            if soft is None or hard is None:
                entry.refuse("the limit needs a soft and a hard value", "{ soft = 1024, hard = 4096 }")
                continue
        else:
            soft = hard = entry.integer()
            if soft is None or hard is None:
                continue
        found.append(Ulimit(name=name, soft=soft, hard=hard))
    return tuple(found)
