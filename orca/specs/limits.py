"""What each value of one service may be: pure checks on a finished spec.

A spec may come from a file or straight from the API, where only its types were
checked, so every number, name and path is looked at here and nowhere else.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from orca.model.secrets import SECRET_NAME, named_in
from orca.model.spec import (
    ContainerImage,
    DeployStrategy,
    ExecCheck,
    HttpCheck,
    MountKind,
    MountSpec,
    PortSpec,
    ProbeSpec,
    Protocol,
    RouteSpec,
    ServiceSpec,
    UpdateOrder,
    WasmModule,
    WasmWorld,
)
from orca.model.units import BYTES_MAX, CPU_MILLI_MAX
from orca.specs.findings import Fault, shown
from orca.specs.placement import find_placement_faults
from orca.specs.schedule import find_schedule_faults
from orca.specs.singleton import find_singleton_faults

REPLICAS_MAX: Final = 10_000
PORTS_MAX: Final = 1_000
ENTRIES_MAX: Final = 1_000
TEXT_CHARACTERS_MAX: Final = 128 * 1024
"""Linux takes no single argument or environment entry above 128 KiB (MAX_ARG_STRLEN)."""
DOCKER_MEMORY_BYTES_MIN: Final = 6 * 2**20
"""Docker refuses a smaller memory limit."""

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DOMAIN: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}")
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,511}")
_URL_PATH: Final = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]{0,1023}")
_URL_PATH_QUERY: Final = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]{0,2047}")
_SIGNAL: Final = re.compile(r"(?:SIG)?[A-Z][A-Z0-9]{1,9}(?:[+-][0-9]{1,2})?|[0-9]{1,2}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_OPEN_SECRET: Final = re.compile(r"\$\{secrets\.[^}]*\Z")
_NAME_ALLOWED: Final = "lower-case letters, digits and '-' inside, 1 to 63 characters, for example web-1"
_PORT_ALLOWED: Final = "1 to 65535"
_REFERENCE_ALLOWED: Final = "${secrets.NAME}, where NAME has letters, digits, '_', '.' and '-'"


def find_limit_faults(spec: ServiceSpec) -> Iterator[Fault]:
    """Everything that is wrong with `spec` when looked at alone."""
    checks: tuple[Callable[[ServiceSpec], Iterator[Fault]], ...] = (
        _identity,
        _source,
        _ports,
        _routes,
        _probes,
        _env_and_labels,
        _resources,
        _files_and_mounts,
        _names,
        find_placement_faults,
        find_schedule_faults,
        find_singleton_faults,
        _rollout,
    )
    for check in checks:
        yield from check(spec)


def _within(path: str, value: float, low: float, high: float, unit: str = "") -> Iterator[Fault]:
    if not low <= value <= high:  # NaN fails too
        yield Fault(path, f"{value:g} is out of range", f"{low:g} to {high:g}{unit}")


def _identity(spec: ServiceSpec) -> Iterator[Fault]:
    for path, name in (("name", spec.name), ("project", spec.project)):
        if not _LABEL.fullmatch(name):
            yield Fault(path, f"{shown(str(name))} is no valid name", _NAME_ALLOWED)
    yield from _within("replicas", spec.replicas, 0, REPLICAS_MAX)
    for path in ("env", "labels", "mounts", "files", "routes", "depends_on", "networks", "aliases"):
        if len(getattr(spec, path)) > ENTRIES_MAX:
            yield Fault(path, "there are too many entries", f"at most {ENTRIES_MAX}")


def _source(spec: ServiceSpec) -> Iterator[Fault]:
    if isinstance(spec.source, WasmModule):
        yield from _module(spec, spec.source)
    else:
        yield from _container(spec.source)


def _module(spec: ServiceSpec, module: WasmModule) -> Iterator[Fault]:
    if not _DIGEST.fullmatch(module.module):
        yield Fault("source.module", f"{shown(str(module.module))} is no digest", "sha256: and 64 hex digits")
    yield from _texts("source.args", module.args)
    yield from _within("source.request_timeout_s", module.request_timeout_s, 0.001, 3600, " s")
    if module.world is WasmWorld.COMMAND and (spec.ports or spec.routes):
        message = "a module of world 'command' runs once and cannot answer requests"
        yield Fault("source.world", message, "world wagi or http, or no port, domain, path and trigger")


def _container(image: ContainerImage) -> Iterator[Fault]:
    if not _IMAGE.fullmatch(image.image):
        yield Fault("source.image", f"{shown(image.image)} is no image name", "a name such as nginx:alpine")
    for field, vector in (("command", image.command), ("entrypoint", image.entrypoint)):
        yield from _texts(f"source.{field}", vector or ())
    for field, text in (("user", image.user), ("working_dir", image.working_dir)):
        yield from _texts(f"source.{field}", () if text is None else (text,))
    if image.working_dir is not None and not image.working_dir.startswith("/"):
        yield Fault("source.working_dir", f"{shown(image.working_dir)} is not absolute", "a path that starts with /")
    if image.hostname is not None and not (_HOST_NAME.fullmatch(image.hostname) and len(image.hostname) <= 63):
        yield Fault("source.hostname", f"{shown(image.hostname)} is no host name", "letters, digits, '-', at most 63")
    if image.stop_signal is not None and not _SIGNAL.fullmatch(image.stop_signal):
        yield Fault("source.stop_signal", f"{shown(image.stop_signal)} is no signal", "a name such as SIGTERM")
    yield from _privileges(image)


def _privileges(image: ContainerImage) -> Iterator[Fault]:
    for field, names in (("cap_add", image.cap_add), ("cap_drop", image.cap_drop)):
        for index, name in enumerate(names):
            if not re.fullmatch(r"[A-Za-z_]{1,40}", name):
                yield Fault(f"source.{field}[{index}]", f"{shown(name)} is no capability", "a name such as NET_ADMIN")
    for index, limit in enumerate(image.ulimits):
        if not re.fullmatch(r"[a-z]{1,20}", limit.name):
            yield Fault(f"source.ulimits[{index}]", f"{shown(limit.name)} is no limit", "a name such as nofile")
        if not (-1 <= limit.soft <= 2**53 and -1 <= limit.hard <= 2**53):
            yield Fault(f"source.ulimits[{index}]", "the limit is out of range", "-1 (no limit) to 2**53")
        elif limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            yield Fault(f"source.ulimits[{index}]", "the soft limit is above the hard one", "soft <= hard")
    if image.shm_bytes is not None:
        yield from _within("source.shm_bytes", image.shm_bytes, 1, BYTES_MAX, " bytes")
    for index, entry in enumerate(image.extra_hosts):
        name, _, address = entry.partition(":")
        if not _HOST_NAME.fullmatch(name) or not (_is_address(address) or address == "host-gateway"):
            allowed = "name:address, for example db:10.0.0.5 or outside:host-gateway"
            yield Fault(f"source.extra_hosts[{index}]", f"{shown(entry)} is no host entry", allowed)


def _texts(path: str, texts: tuple[str, ...]) -> Iterator[Fault]:
    if any("\0" in text for text in texts):
        yield Fault(path, "a string with a NUL character cannot be passed on", "text without NUL")
    if any(len(text) > TEXT_CHARACTERS_MAX for text in texts) or len(texts) > ENTRIES_MAX:
        yield Fault(path, "it is too long", f"at most {TEXT_CHARACTERS_MAX} characters and {ENTRIES_MAX} arguments")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _ports(spec: ServiceSpec) -> Iterator[Fault]:
    if len(spec.ports) > PORTS_MAX:
        yield Fault("ports", f"{len(spec.ports)} ports are too many", f"at most {PORTS_MAX}")
    seen: set[PortSpec] = set()
    for index, port in enumerate(spec.ports):
        path = f"ports[{index}]"
        if not 1 <= port.port <= 65535:
            yield Fault(f"{path}.port", f"{port.port} is no port", _PORT_ALLOWED)
        if port.host_port is not None and not 1 <= port.host_port <= 65535:
            yield Fault(f"{path}.host_port", f"{port.host_port} is no port", _PORT_ALLOWED)
        if not _is_address(port.host_ip):
            yield Fault(f"{path}.host_ip", f"{shown(port.host_ip)} is no address", "an address such as 127.0.0.1")
        if port in seen:
            yield Fault(path, f"port {port.port}/{port.protocol.value} is given twice", "each port once")
        seen.add(port)
        if spec.internal and port.host_port is not None:
            yield Fault(path, "an internal service cannot publish a host port", "internal = false, or no host port")


def _tcp_ports(spec: ServiceSpec) -> tuple[int, ...]:
    return tuple(dict.fromkeys(port.port for port in spec.ports if port.protocol is Protocol.TCP))


def _port_fault(path: str, port: int | None, spec: ServiceSpec, what: str) -> Iterator[Fault]:
    """`port` (None: the main one) must be a TCP port of `spec`."""
    known = _tcp_ports(spec)
    if not known:
        message = f"{what} needs a TCP port and the service has none"
        yield Fault(path, message, "a service with port = 80, for example", is_about_ports=True)
    elif (spec.main_port if port is None else port) not in known:
        named = f"port {port}" if port is not None else f"the main port {spec.main_port}"
        allowed = "one of " + ", ".join(map(str, known[:20]))
        yield Fault(path, f"{what} names {named}, which is no TCP port of the service", allowed, is_about_ports=True)


def _routes(spec: ServiceSpec) -> Iterator[Fault]:
    for index, route in enumerate(spec.routes):
        path = f"routes[{index}]"
        yield from _route(path, route)
        yield from _port_fault(path, route.port, spec, "a route")
        if spec.internal:
            yield Fault(path, "an internal service cannot have a route", "internal = false, or no domain and path")


def _route(path: str, route: RouteSpec) -> Iterator[Fault]:
    domain = route.domain
    if domain is not None and not _DOMAIN.fullmatch(domain.removeprefix("*.")):
        allowed = "a lower-case host name without scheme, port and path, for example example.com or *.example.com"
        yield Fault(f"{path}.domain", f"{shown(domain)} is no domain", allowed)
    segments = route.path.split("/")
    if not _URL_PATH.fullmatch(route.path) or "." in segments or ".." in segments or "//" in route.path:
        allowed = "a path such as /api, without '..', '//', query and spaces"
        yield Fault(f"{path}.path", f"{shown(route.path)} is no path prefix", allowed)


def _probes(spec: ServiceSpec) -> Iterator[Fault]:
    for path, probe in (("startup", spec.startup), ("readiness", spec.readiness), ("liveness", spec.liveness)):
        if probe is not None:
            yield from _probe(path, probe, spec)


def _probe(path: str, probe: ProbeSpec, spec: ServiceSpec) -> Iterator[Fault]:
    check = probe.check
    if isinstance(check, ExecCheck):
        if spec.runtime.value == "wasm":
            yield Fault(path, "a command cannot be run inside a Wasm module", "a probe of kind http or tcp")
        if not check.command or not check.command[0]:
            yield Fault(path, "the probe has no command", 'a command such as ["pg_isready"]')
        yield from _texts(path, check.command)
    else:
        yield from _port_fault(path, check.port, spec, "the probe")
    if isinstance(check, HttpCheck):
        if not _URL_PATH_QUERY.fullmatch(check.path):
            yield Fault(path, f"{shown(check.path)} is no path", "a path such as /healthz")
        if check.host is not None and not re.fullmatch(r"[A-Za-z0-9_.\-\[\]:]{1,253}", check.host):
            yield Fault(f"{path}.host", f"{shown(check.host)} is no host", "a host name such as example.com")
    yield from _within(f"{path}.interval_s", probe.interval_s, 0.1, 86400, " s")
    yield from _within(f"{path}.timeout_s", probe.timeout_s, 0.01, 3600, " s")
    yield from _within(f"{path}.initial_delay_s", probe.initial_delay_s, 0, 86400, " s")
    yield from _within(f"{path}.success_threshold", probe.success_threshold, 1, 1000)
    yield from _within(f"{path}.failure_threshold", probe.failure_threshold, 1, 10000)


def _env_and_labels(spec: ServiceSpec) -> Iterator[Fault]:
    for name, value in spec.env.items():
        path = f"env.{name}"
        if not name or "=" in name or "\0" in name or len(name) > 512:
            yield Fault(path, f"{shown(name)} is no variable name", "a name without '='")
        yield from _texts(path, (value,))
        if _OPEN_SECRET.search(value):
            yield Fault(path, f"the closing brace of a secret's name is missing in {shown(value)}", _REFERENCE_ALLOWED)
        yield from _secret_names(path, named_in(value))
    for name, value in spec.labels.items():
        path = f"labels.{name}"
        if not name or len(name) > 512:
            yield Fault(path, f"{shown(name)} is no label", "a name of 1 to 512 characters")
        if name.startswith("orca."):
            yield Fault(path, "labels that start with 'orca.' belong to Orca itself", "another name")
        yield from _texts(path, (name, value))


def _resources(spec: ServiceSpec) -> Iterator[Fault]:
    resources = spec.resources
    if resources.cpu_milli is not None:
        yield from _within("resources.cpu_milli", resources.cpu_milli, 1, CPU_MILLI_MAX, " thousandths of a core")
    if resources.memory_bytes is not None:
        is_container = isinstance(spec.source, ContainerImage)
        low = DOCKER_MEMORY_BYTES_MIN if is_container else 64 * 1024
        if not low <= resources.memory_bytes <= BYTES_MAX:
            message = f"{resources.memory_bytes} bytes of memory is out of range"
            yield Fault("resources.memory_bytes", message, "at least 6Mi" if is_container else "at least 64Ki")
    if resources.pids_max is not None:
        yield from _within("resources.pids_max", resources.pids_max, 1, 2**22)


def _is_clean_path(path: str) -> bool:
    """Absolute, not the root, with no empty, `.` or `..` part."""
    parts = path.split("/")[1:]
    return (
        path.startswith("/") and len(path) <= 4096 and "\0" not in path and all(p not in {"", ".", ".."} for p in parts)
    )


def _files_and_mounts(spec: ServiceSpec) -> Iterator[Fault]:
    targets: dict[str, str] = {}
    places = [(f"mounts[{n}]", mount.target) for n, mount in enumerate(spec.mounts)]
    places += [(f"files[{n}]", file.target) for n, file in enumerate(spec.files)]
    for path, target in places:
        if not _is_clean_path(target):
            allowed = "an absolute path such as /var/lib/data, without '..' and without a trailing '/'"
            yield Fault(path, f"target {shown(target)} cannot be mounted on", allowed)
        if target in targets:
            yield Fault(path, f"target {shown(target)} is mounted twice", "each target once")
        targets[target] = path
    for index, mount in enumerate(spec.mounts):
        yield from _mount(f"mounts[{index}]", mount)
    for index, file in enumerate(spec.files):
        if not 0 <= file.mode <= 0o777:
            yield Fault(f"files[{index}].mode", f"{file.mode:o} is no file mode", '"0000" to "0777"')
        path = f"files[{index}]"
        if (file.content is not None) + (file.secret is not None) + file.is_fence != 1:
            yield Fault(path, "a file has a content, a secret or a fence", "exactly one of content, secret and fence")
        if file.is_fence and spec.singleton is None:
            yield Fault(path, "only a singleton has a fence", "singleton = true")
        if file.content is not None and not _DIGEST.fullmatch(file.content):
            yield Fault(f"{path}.content", "the content is no digest", "sha256: and 64 hex digits")
        if file.secret is not None:
            yield from _secret_names(f"{path}.secret", (file.secret,))


def _secret_names(path: str, names: Iterable[str]) -> Iterator[Fault]:
    for name in dict.fromkeys(names):
        if not SECRET_NAME.fullmatch(name):
            yield Fault(path, f"{shown(name)} is no name of a secret", _REFERENCE_ALLOWED)


def _mount(path: str, mount: MountSpec) -> Iterator[Fault]:
    if mount.kind is MountKind.VOLUME and not _WORD.fullmatch(mount.source):
        allowed = "letters, digits, '_', '.' and '-'"
        yield Fault(f"{path}.source", f"{shown(mount.source)} is no volume name", allowed)
    if mount.kind is MountKind.BIND and mount.source != "/" and not _is_clean_path(mount.source):
        allowed = "an absolute path of the node, without '..' and without a trailing '/'"
        yield Fault(f"{path}.source", f"{shown(mount.source)} cannot be mounted", allowed)
    if mount.kind is MountKind.TMPFS and mount.source:
        yield Fault(f"{path}.source", "a tmpfs has no source", "no source, or kind volume or bind")
    if mount.size_bytes is not None:
        if mount.kind is not MountKind.TMPFS:
            yield Fault(f"{path}.size_bytes", "only a tmpfs has a size", "no size, or kind tmpfs")
        yield from _within(f"{path}.size_bytes", mount.size_bytes, 1, BYTES_MAX, " bytes")


def _names(spec: ServiceSpec) -> Iterator[Fault]:
    for path, names in (("networks", spec.networks), ("aliases", spec.aliases)):
        for index, name in enumerate(names):
            if not _WORD.fullmatch(name):
                yield Fault(f"{path}[{index}]", f"{shown(name)} is no valid name", "letters, digits, '_', '.', '-'")
            if name in names[:index]:
                yield Fault(f"{path}[{index}]", f"{shown(name)} is given twice", "each name once")


def _stages(spec: ServiceSpec) -> Iterator[Fault]:
    deploy = spec.deploy
    yield from _within("deploy.canary_copies", deploy.canary_copies, 1, REPLICAS_MAX)
    yield from _within("deploy.canary_percent", deploy.canary_percent, 0, 100)
    if deploy.auto_promote_s is not None:
        yield from _within("deploy.auto_promote_s", deploy.auto_promote_s, 0, 7 * 86400, " s")
    yield from _within("deploy.keep_old_s", deploy.keep_old_s, 0, 7 * 86400, " s")
    if deploy.strategy is DeployStrategy.ROLLING:
        return
    way = deploy.strategy.value
    publishes = any(port.host_port is not None for port in spec.ports)
    writes = any(mount.kind is MountKind.VOLUME and not mount.read_only for mount in spec.mounts)
    if spec.is_job or spec.is_global:
        what = "a job" if spec.is_job else "a service with a copy on each node"
        yield Fault("deploy.strategy", f"{what} has no {way} rollout", '"rolling"')
    elif publishes or writes:
        what = "publishes a port of the node" if publishes else "writes to a volume"
        message = f"a {way} rollout runs two revisions side by side, and this service {what}"
        yield Fault("deploy.strategy", message, '"rolling"')
    elif deploy.order is UpdateOrder.STOP_FIRST:
        message = f"a {way} rollout runs two revisions side by side, and stops none of the old one first"
        yield Fault("deploy.order", message, '"start-first"')


def _rollout(spec: ServiceSpec) -> Iterator[Fault]:
    deploy = spec.deploy
    yield from _within("deploy.max_surge", deploy.max_surge, 0, REPLICAS_MAX)
    yield from _within("deploy.max_unavailable", deploy.max_unavailable, 0, REPLICAS_MAX)
    if deploy.max_surge == 0 and deploy.max_unavailable == 0:
        message = "with neither a surplus nor a missing copy allowed no update can proceed"
        yield Fault("deploy.max_surge", message, "max_surge or max_unavailable of at least 1")
    yield from _within("deploy.min_healthy_time_s", deploy.min_healthy_time_s, 0, 86400, " s")
    yield from _within("deploy.deadline_s", deploy.deadline_s, 1, 86400, " s")
    if deploy.min_healthy_time_s >= deploy.deadline_s:
        message = "a copy could never count as healthy before the deadline"
        yield Fault("deploy.min_healthy_time_s", message, f"less than the deadline of {deploy.deadline_s:g} s")
    yield from _stages(spec)
    yield from _within("stop_timeout_s", spec.stop_timeout_s, 0, 3600, " s")
    yield from _within("drain_timeout_s", spec.drain_timeout_s, 0, 3600, " s")
    yield from _within("ingress.queue_timeout_s", spec.ingress.queue_timeout_s, 0, 300, " s")
    yield from _within("ingress.queue_max", spec.ingress.queue_max, 0, 10_000)
    if spec.ingress.tls is not None and not any(route.domain for route in spec.routes):
        yield Fault(
            "ingress.tls", "the service has no domain that a certificate could be for", 'domain = "example.com"'
        )
    if spec.restart.attempts_max is not None:
        yield from _within("restart.attempts_max", spec.restart.attempts_max, 1, 10**6)
        if spec.restart.policy.value != "on-failure":
            yield Fault("restart.attempts_max", "only 'on-failure' counts attempts", 'policy = "on-failure"')
    yield from _within("log.file_bytes_max", spec.log.file_bytes_max, 16 * 1024, 2**40, " bytes")
    yield from _within("log.files_max", spec.log.files_max, 1, 100)
