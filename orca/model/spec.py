"""What a person asks for: one service, in canonical units.

Files (TOML, Compose) are read by `orca.specs`, which turns `512Mi` and `1m30s`
into the numbers kept here; the HTTP API speaks this form. A spec is a value: two
equal specs ask for the same thing.
"""

import enum
from typing import Any, TypeAlias

import msgspec

from orca.model.ids import (
    DEFAULT_PROJECT,
    BlobDigest,
    ProjectName,
    ServiceId,
    ServiceName,
    service_id,
)
from orca.model.ingress import IngressSpec
from orca.model.units import Bytes, MilliCpu


class RuntimeKind(enum.Enum):
    """What can run a workload."""

    DOCKER = "docker"
    WASM = "wasm"


class PullPolicy(enum.Enum):
    """When an image is fetched from its registry."""

    ALWAYS = "always"
    MISSING = "missing"
    NEVER = "never"


class RestartPolicy(enum.Enum):
    """What happens when a workload ends by itself.

    `always` is a service: it runs again whatever its exit code was. `on-failure`
    runs again after a non-zero exit. `never` is a job: its first exit is its end.
    """

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class Protocol(enum.Enum):
    """Transport protocol of a port."""

    TCP = "tcp"
    UDP = "udp"


class MountKind(enum.Enum):
    """Where the files of a mount live."""

    VOLUME = "volume"
    BIND = "bind"
    TMPFS = "tmpfs"


class DependencyCondition(enum.Enum):
    """What a service waits for in another one before its first copy starts."""

    STARTED = "started"
    HEALTHY = "healthy"
    COMPLETED = "completed"


class UpdateOrder(enum.Enum):
    """Whether a new copy starts before or after the one it replaces."""

    START_FIRST = "start-first"
    STOP_FIRST = "stop-first"


class ServiceMode(enum.Enum):
    """Whether a number of copies is wanted, or one on every node that may take one."""

    REPLICATED = "replicated"
    GLOBAL = "global"


class PlacementStrategy(enum.Enum):
    """Whether copies go where there is most room, or fill a node before the next is begun."""

    SPREAD = "spread"
    BIN_PACK = "bin-pack"


class WasmWorld(enum.Enum):
    """How a module is called; `AUTO` is decided from the module's own imports and exports.

    `COMMAND`: a WASI p1 program run once (a job). `WAGI`: a WASI p1 program run once
    a request, request in environment and stdin, response on stdout. `HTTP`: a WASI p2
    component that exports `wasi:http/incoming-handler`.
    """

    AUTO = "auto"
    COMMAND = "command"
    WAGI = "wagi"
    HTTP = "http"


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a spec: immutable, compared by value, strict when decoded."""


class Ulimit(_Value, frozen=True):
    """A resource limit of the container's processes, `nofile` for example."""

    name: str
    soft: int
    hard: int


class ContainerImage(_Value, frozen=True, tag="container"):
    """A container, run by Docker.

    `command` and `entrypoint` are argument vectors and None keeps the image's own.
    `init` puts a small PID 1 in front, so that a program without a SIGTERM handler
    stops at once instead of after `stop_timeout_s`.
    """

    image: str
    pull: PullPolicy = PullPolicy.MISSING
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    user: str | None = None
    working_dir: str | None = None
    hostname: str | None = None
    init: bool = True
    privileged: bool = False
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    shm_bytes: Bytes | None = None
    extra_hosts: tuple[str, ...] = ()
    stop_signal: str | None = None


class WasmModule(_Value, frozen=True, tag="wasm"):
    """A WebAssembly module or component, run by wasmtime.

    `name` is what people call the file; `module` is its content. `request_timeout_s`
    bounds one HTTP call; a command runs as long as it needs.
    """

    module: BlobDigest
    name: str = ""
    world: WasmWorld = WasmWorld.AUTO
    args: tuple[str, ...] = ()
    request_timeout_s: float = 30.0


WorkloadSource: TypeAlias = ContainerImage | WasmModule


class PortSpec(_Value, frozen=True):
    """A port on which the workload listens.

    `host_port` publishes it on the node itself (`host_ip` narrows that); without it
    the port is reachable only by the proxy and inside the project's network.
    """

    port: int
    protocol: Protocol = Protocol.TCP
    host_port: int | None = None
    host_ip: str = "0.0.0.0"  # noqa: S104 - only when a host port is asked for


class RouteSpec(_Value, frozen=True):
    """Requests for `domain` (None: any) below `path` go to `port` of this service.

    With `strip_path` the prefix is cut off before the request is forwarded.
    """

    domain: str | None = None
    path: str = "/"
    strip_path: bool = False
    port: int | None = None


class HttpCheck(_Value, frozen=True, tag="http"):
    """Well when a GET of `path` answers 200 to 399 within the probe's timeout."""

    path: str
    port: int | None = None
    host: str | None = None


class TcpCheck(_Value, frozen=True, tag="tcp"):
    """Well when `port` accepts a connection."""

    port: int | None = None


class ExecCheck(_Value, frozen=True, tag="exec"):
    """Well when `command`, run inside the workload, exits 0."""

    command: tuple[str, ...]


HealthCheck: TypeAlias = HttpCheck | TcpCheck | ExecCheck


class ProbeSpec(_Value, frozen=True):
    """One kind of health question, how often it is asked and how answers count."""

    check: HealthCheck
    interval_s: float = 5.0
    timeout_s: float = 2.0
    initial_delay_s: float = 0.0
    success_threshold: int = 1
    failure_threshold: int = 3


class Resources(_Value, frozen=True):
    """What one copy may use; None is unlimited and counts as nothing when placing."""

    cpu_milli: MilliCpu | None = None
    memory_bytes: Bytes | None = None
    pids_max: int | None = None


class MountSpec(_Value, frozen=True):
    """Files that outlive a copy (`volume`), of the node (`bind`) or of nobody (`tmpfs`).

    `source` is the volume's name or the node's absolute path, empty for `tmpfs`.
    """

    target: str
    kind: MountKind = MountKind.VOLUME
    source: str = ""
    read_only: bool = False
    size_bytes: Bytes | None = None


class FileSpec(_Value, frozen=True):
    """A small file mounted read-only at `target`: of known `content`, the value of a `secret`, or a singleton's fence.

    Exactly one of the three is given. A secret's file lies in memory, never on a disk.
    """

    target: str
    content: BlobDigest | None = None
    secret: str | None = None
    is_fence: bool = False
    mode: int = 0o444


class DependencySpec(_Value, frozen=True):
    """`service` of the same project must meet `condition` first."""

    service: ServiceName
    condition: DependencyCondition = DependencyCondition.STARTED


class RestartSpec(_Value, frozen=True):
    """When to run again; `attempts_max` bounds consecutive tries of `on-failure`."""

    policy: RestartPolicy = RestartPolicy.ALWAYS
    attempts_max: int | None = None


class Preference(_Value, frozen=True):
    """Nodes for which `match` (`orca.model.constraint`) holds are better by `weight`, or worse if that is negative."""

    match: str
    weight: int = 50


class PlacementSpec(_Value, frozen=True):
    """Which nodes may run it, and which of them are best.

    Every label must match, every one of `constraints` must hold (`orca.model.constraint`), and the node has the
    name or id `node` if given. It runs only where a copy of each of `beside` is to run, and where none of
    `apart_from` is; both name services of the same project. At most `copies_per_node_max` go to one node.

    `spread` names a label over whose values copies are spread evenly. Among those that are equal in this, the sum of
    the weights of `prefer` counts, then `strategy`.
    """

    labels: dict[str, str] = {}
    node: str | None = None
    spread: str | None = None
    constraints: tuple[str, ...] = ()
    prefer: tuple[Preference, ...] = ()
    strategy: PlacementStrategy = PlacementStrategy.SPREAD
    beside: tuple[ServiceName, ...] = ()
    apart_from: tuple[ServiceName, ...] = ()
    copies_per_node_max: int | None = None


class DisconnectSpec(_Value, frozen=True):
    """What happens to copies whose node is not heard of any more.

    After `replace_after_s` others start elsewhere; None: never, they are waited for. A node that has not heard from the
    group for `stop_after_s` stops its own copies; None: it keeps them.
    """

    replace_after_s: float | None = 3.0
    stop_after_s: float | None = None


class SingletonSpec(_Value, frozen=True):
    """At most one copy runs at any time in the whole cluster, held to that by a lease of `lease_s`.

    The node of the copy renews the lease while it can. When it cannot, it stops the copy before the lease ends, and no
    other node starts one before that.
    """

    lease_s: float = 15.0

    @property
    def stop_s(self) -> float:
        """How long before its lease ends a copy that cannot be kept is told to stop, at most."""
        return self.lease_s / 3


DEFAULT_PRIORITY = 50
"""Of 0 to 100: when there is not room for all, copies of services with a higher one are placed first."""


class DeployStrategy(enum.Enum):
    """What a new revision does beside the old one before it replaces it."""

    ROLLING = "rolling"
    """Nothing: it replaces it copy by copy."""
    CANARY = "canary"
    """A few copies take a small share of the requests, until it is promoted; then it replaces it copy by copy."""
    BLUE_GREEN = "blue-green"
    """As many copies as are wanted run and take no request, until it is promoted; then they take all at once."""


class DeploySpec(_Value, frozen=True):
    """How a new revision replaces the old one.

    At most `max_surge` copies above and `max_unavailable` below `replicas` exist
    meanwhile; a new copy counts once it has been ready for `min_healthy_time_s`. When
    no copy became ready for `deadline_s` the rollout has failed: it stops where it is
    and the old copies keep serving; with `auto_rollback` the revision that they are of is made the newest again.

    Of a canary `canary_copies` run and take `canary_percent` of the requests. What stands beside the old revision is
    promoted by a person, or by itself `auto_promote_s` after it became healthy. After the promotion of a blue-green
    rollout the old copies are kept for `keep_old_s`, without requests, for the way back.
    """

    strategy: DeployStrategy = DeployStrategy.ROLLING
    canary_copies: int = 1
    canary_percent: int = 10
    auto_promote_s: float | None = None
    keep_old_s: float = 0.0
    auto_rollback: bool = False
    order: UpdateOrder = UpdateOrder.START_FIRST
    max_surge: int = 1
    max_unavailable: int = 0
    min_healthy_time_s: float = 0.0
    deadline_s: float = 120.0


class MissedRun(enum.Enum):
    """What becomes of a run whose moment passed while nobody could decide it."""

    SKIP = "skip"
    RUN = "run"


class OverlapPolicy(enum.Enum):
    """What becomes of a run that is due while an earlier one is not over."""

    FORBID = "forbid"
    ALLOW = "allow"
    REPLACE = "replace"


class ScheduleSpec(_Value, frozen=True):
    """When it runs: `cron` are its five fields (`orca.specs.schedule`), read in `time_zone`."""

    cron: str
    time_zone: str = "UTC"
    missed: MissedRun = MissedRun.SKIP
    overlap: OverlapPolicy = OverlapPolicy.FORBID


class LogSpec(_Value, frozen=True):
    """How much of a copy's output is kept on its node."""

    file_bytes_max: Bytes = Bytes(10 * 2**20)
    files_max: int = 3


class ServiceSpec(_Value, frozen=True):
    """One service, whole. Built by `orca.specs` or decoded from the API."""

    name: ServiceName
    source: WorkloadSource
    project: ProjectName = DEFAULT_PROJECT
    replicas: int = 1
    ports: tuple[PortSpec, ...] = ()
    routes: tuple[RouteSpec, ...] = ()
    startup: ProbeSpec | None = None
    readiness: ProbeSpec | None = None
    liveness: ProbeSpec | None = None
    env: dict[str, str] = {}
    resources: Resources = Resources()
    mounts: tuple[MountSpec, ...] = ()
    files: tuple[FileSpec, ...] = ()
    networks: tuple[str, ...] = ("default",)
    aliases: tuple[str, ...] = ()
    internal: bool = False
    restart: RestartSpec = RestartSpec()
    stop_timeout_s: float = 10.0
    drain_timeout_s: float = 10.0
    ingress: IngressSpec = IngressSpec()
    labels: dict[str, str] = {}
    placement: PlacementSpec = PlacementSpec()
    mode: ServiceMode = ServiceMode.REPLICATED
    priority: int = DEFAULT_PRIORITY
    disconnect: DisconnectSpec = DisconnectSpec()
    deploy: DeploySpec = DeploySpec()
    depends_on: tuple[DependencySpec, ...] = ()
    log: LogSpec = LogSpec()
    schedule: ScheduleSpec | None = None
    singleton: SingletonSpec | None = None

    @property
    def id(self) -> ServiceId:
        """`<project>/<name>`."""
        return service_id(self.project, self.name)

    @property
    def runtime(self) -> RuntimeKind:
        """Which runtime can run it."""
        return RuntimeKind.WASM if isinstance(self.source, WasmModule) else RuntimeKind.DOCKER

    @property
    def main_port(self) -> int | None:
        """The port that routes and probes mean when they name none."""
        return self.ports[0].port if self.ports else None

    @property
    def is_global(self) -> bool:
        """Whether one copy is wanted on every node, and `replicas` means nothing."""
        return self.mode is ServiceMode.GLOBAL

    @property
    def is_job(self) -> bool:
        """Whether its own end is success rather than something to heal."""
        return self.restart.policy is not RestartPolicy.ALWAYS or self.schedule is not None


_NOT_IN_TEMPLATE = (
    *("replicas", "routes", "placement", "deploy", "depends_on", "drain_timeout_s", "restart", "ingress"),
    *("mode", "priority", "disconnect", "schedule"),
)


def canonical(value: Any) -> Any:
    """`value` in builtins, without what equals its default: equal specs give equal forms.

    msgspec's own `omit_defaults` compares most defaults by identity, so a written 10.0
    would differ from a default 10.0.
    """
    if isinstance(value, msgspec.Struct):
        plain: dict[str, Any] = {}
        tag = type(value).__struct_config__.tag
        if tag is not None:
            plain["type"] = tag
        for field in msgspec.structs.fields(value):
            inner = getattr(value, field.name)
            default = field.default_factory() if callable(field.default_factory) else field.default
            if inner != default:
                plain[field.name] = canonical(inner)
        return plain
    if isinstance(value, tuple):
        return [canonical(inner) for inner in value]
    if isinstance(value, dict):
        return {key: canonical(inner) for key, inner in value.items()}
    return value.value if isinstance(value, enum.Enum) else value


def template_of(spec: ServiceSpec) -> bytes:
    """The canonical bytes of what a running copy depends on.

    Two specs with equal templates need no new copies: only the number of copies, the
    routes, the placement or the way of deploying differ. Callers hash it.
    """
    plain = canonical(spec)
    for key in _NOT_IN_TEMPLATE:
        plain.pop(key, None)
    return msgspec.json.encode(plain, order="deterministic")
