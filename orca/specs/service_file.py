"""Reads a TOML service file: `[[service]]` tables into specs."""

from collections.abc import Callable
from typing import Any, Final

from orca.model.build import BuildSpec
from orca.model.ids import DEFAULT_PROJECT, BlobDigest, ProjectName, ServiceName, service_id
from orca.model.spec import (
    DEFAULT_PRIORITY,
    ContainerImage,
    DisconnectSpec,
    LogSpec,
    PlacementSpec,
    PortSpec,
    PullPolicy,
    Resources,
    RestartSpec,
    ServiceMode,
    ServiceSpec,
    WasmModule,
    WasmWorld,
    WorkloadSource,
)
from orca.specs.document import Node
from orca.specs.findings import shown
from orca.specs.ingress_parts import read_ingress
from orca.specs.placement import read_disconnect, read_mode, read_placement
from orca.specs.reading import SERVICES_MAX, Context, ReadService, note_origins
from orca.specs.schedule import read_schedule
from orca.specs.section import Item, Section
from orca.specs.service_parts import (
    read_dependencies,
    read_deploy,
    read_env,
    read_files,
    read_log,
    read_mounts,
    read_ports,
    read_probes,
    read_resources,
    read_restart,
    read_routes,
    read_ulimits,
)
from orca.specs.singleton import read_singleton
from orca.specs.words import read_argv, read_hosts, resolve_path

_CONTAINER_READERS: Final[dict[str, tuple[str, Callable[[Item], Any]]]] = {
    "pull": ("pull", lambda item: item.choice({policy.value: policy for policy in PullPolicy})),
    "command": ("command", read_argv),
    "entrypoint": ("entrypoint", read_argv),
    "user": ("user", Item.filled_text),
    "working_dir": ("working_dir", Item.filled_text),
    "hostname": ("hostname", Item.filled_text),
    "init": ("init", Item.boolean),
    "privileged": ("privileged", Item.boolean),
    "read_only": ("read_only", Item.boolean),
    "cap_add": ("cap_add", Item.strings),
    "cap_drop": ("cap_drop", Item.strings),
    "ulimits": ("ulimits", read_ulimits),
    "shm_size": ("shm_bytes", Item.size),
    "extra_hosts": ("extra_hosts", read_hosts),
    "stop_signal": ("stop_signal", Item.filled_text),
}
_WASM_KEYS: Final = ("module", "world", "args", "request_timeout")
_COMMON_KEYS: Final = (
    *("name", "project", "runtime", "replicas", "port", "ports", "domain", "domains", "path", "routes", "triggers"),
    *("health", "readiness", "liveness", "startup", "env", "resources", "volumes", "mounts", "files", "networks"),
    *("aliases", "internal", "restart", "stop_timeout", "drain_timeout", "labels", "placement", "deploy"),
    *("depends_on", "log", "ingress", "mode", "priority", "disconnect", "schedule", "singleton"),
)
SERVICE_KEYS: Final = (*_COMMON_KEYS, "image", "build", *_CONTAINER_READERS, *_WASM_KEYS)
_WASM_PORT: Final = 80
"""What a Wasm service with a route listens on when it names no port: nobody else sees the number."""


def read_service_file(root: Node, context: Context) -> list[ReadService]:
    """Every service of a TOML document; problems go to the context's findings."""
    top = Section(Item(root, "", context.findings), ("project", "service"))
    project = ProjectName(top.read("project", Item.filled_text, context.project or DEFAULT_PROJECT))
    services = top.get("service")
    if services is None:
        context.findings.refuse(1, "service", "the file has no service", '[[service]] with name = "…" and image = "…"')
        return []
    if services.is_table:
        services.refuse("services are written as a list of tables", "[[service]] with two brackets")
        return []
    items = services.items()
    if len(items) > SERVICES_MAX:
        services.refuse(f"{len(items)} services in one file are too many", f"at most {SERVICES_MAX}")
        return []
    if not items:
        services.refuse("the file has no service", '[[service]] with name = "…" and image = "…"')
    return [_service(item, index, project, context) for index, item in enumerate(items)]


def _service(item: Item, index: int, project: ProjectName, context: Context) -> ReadService:
    section = Section(item, SERVICE_KEYS)
    origins: dict[str, Item] = {}
    name = ServiceName(section.read("name", Item.text, f"service-{index}"))
    if not section.has("name"):
        item.refuse("the service has no name", 'name = "web"')
    project = ProjectName(section.read("project", Item.text, project))
    identity = service_id(project, name)
    source, build = _source(section, name, project, context, origins)
    ports = read_ports(section, origins)
    routes = read_routes(section, origins)
    if isinstance(source, WasmModule) and routes and not section.has("port", "ports"):
        ports = (PortSpec(port=_WASM_PORT),)
    replicas = section.read("replicas", Item.integer, 1)
    publishes = any(port.host_port is not None for port in ports)
    is_singleton = (alone := section.get("singleton")) is not None and not alone.is_false
    answers = not (isinstance(source, WasmModule) and source.world is WasmWorld.COMMAND)
    for field in ("name", "project", "replicas", "env", "resources", "labels", "networks", "aliases", "restart"):
        _note(origins, section, field, field)
    for field in ("depends_on", "log", "placement", "deploy", "mounts", "mode", "priority", "disconnect", "schedule"):
        _note(origins, section, field, field)
    _note(origins, section, "singleton", "singleton")
    _note(origins, section, "stop_timeout_s", "stop_timeout")
    _note(origins, section, "drain_timeout_s", "drain_timeout")
    dependencies = section.get("depends_on")
    probes = read_probes(section, origins, ports if answers else ())
    spec = ServiceSpec(
        name=name,
        source=source,
        project=project,
        replicas=replicas,
        ports=ports,
        routes=routes,
        startup=probes.get("startup"),
        readiness=probes.get("readiness"),
        liveness=probes.get("liveness"),
        env=section.read("env", read_env, {}),
        resources=section.read("resources", read_resources, Resources()),
        mounts=read_mounts(section, origins, context),
        files=read_files(section, origins, context),
        networks=section.read("networks", Item.strings, ("default",)),
        aliases=section.read("aliases", Item.strings, ()),
        internal=section.read("internal", Item.boolean, False),
        restart=section.read("restart", read_restart, RestartSpec()),
        stop_timeout_s=section.read("stop_timeout", Item.duration, 10.0),
        drain_timeout_s=section.read("drain_timeout", Item.duration, 10.0),
        ingress=read_ingress(section.get("ingress"), origins, name, context),
        labels=section.read("labels", Item.string_map, {}),
        placement=section.read("placement", read_placement, PlacementSpec()),
        mode=section.read("mode", read_mode, ServiceMode.REPLICATED),
        priority=section.read("priority", Item.integer, DEFAULT_PRIORITY),
        disconnect=section.read("disconnect", read_disconnect, DisconnectSpec()),
        deploy=read_deploy(section.get("deploy"), replicas, publishes=publishes or is_singleton),
        depends_on=() if dependencies is None else read_dependencies(dependencies, origins),
        log=section.read("log", read_log, LogSpec()),
        schedule=section.read("schedule", read_schedule, None),
        singleton=section.read("singleton", read_singleton, None),
    )
    return ReadService(id=identity, item=item, spec=spec, origins=origins, build=build)


def _note(origins: dict[str, Item], section: Section, field: str, key: str) -> None:
    """Remember the item of `key`, and of the keys below it, as the origin of `field`."""
    item = section.get(key)
    if item is not None:
        note_origins(origins, field, item)


def _source(
    section: Section, name: ServiceName, project: ProjectName, context: Context, origins: dict[str, Item]
) -> tuple[WorkloadSource, BuildSpec | None]:
    module = section.get("module")
    runtime = section.read("runtime", lambda item: item.choice({"docker": "docker", "wasm": "wasm"}), None)
    is_wasm = module is not None or (runtime == "wasm" and not section.has("image", "build"))
    if (given := section.get("runtime")) is not None and runtime is not None and (runtime == "wasm") is not is_wasm:
        has, needs = ("a module", "wasm") if is_wasm else ("no module", "docker")
        given.refuse(f"runtime {shown(runtime)} does not fit: the service has {has}", needs)
    if is_wasm:
        for key in ("image", "build", *_CONTAINER_READERS):
            if (entry := section.get(key)) is not None:
                entry.refuse(f"{key!r} is for containers; this service is a Wasm module", ", ".join(_WASM_KEYS))
        return _module(section, context, origins), None
    for key in _WASM_KEYS:
        if (entry := section.get(key)) is not None:
            entry.refuse(f"{key!r} is for Wasm modules; this service is a container", "image, command, entrypoint")
    return _container(section, name, project, context, origins)


def _module(section: Section, context: Context, origins: dict[str, Item]) -> WasmModule:
    digest, path = BlobDigest("sha256:" + "0" * 64), ""
    module = section.get("module")
    if module is None:
        section.item.refuse("a Wasm service needs a module", 'module = "./web.wasm"')
    elif (text := module.filled_text()) is not None:
        content = context.files.load(module, text)
        path = text.replace("\\", "/").rsplit("/", 1)[-1]
        if content is not None:
            digest = context.files.keep(content)
    for field, key in (("args", "args"), ("request_timeout_s", "request_timeout"), ("world", "world")):
        if (entry := section.get(key)) is not None:
            origins[f"source.{field}"] = entry
    return WasmModule(
        module=digest,
        name=path,
        world=section.read("world", lambda item: item.choice({w.value: w for w in WasmWorld}), WasmWorld.AUTO),
        args=section.read("args", Item.strings, ()),
        request_timeout_s=section.read("request_timeout", Item.duration, 30.0),
    )


def _container(
    section: Section, name: ServiceName, project: ProjectName, context: Context, origins: dict[str, Item]
) -> tuple[ContainerImage, BuildSpec | None]:
    plain: dict[str, Any] = {}
    for key, (field, parse) in _CONTAINER_READERS.items():
        if (entry := section.get(key)) is not None:
            origins[f"source.{field}"] = entry
            value = parse(entry)
            if value is not None:
                plain[field] = value
    if (image := section.get("image")) is not None:
        origins["source.image"] = image
    building = section.get("build")
    if image is None and building is None:
        section.item.refuse(
            "the service has nothing to run", 'image = "nginx:alpine", build = "." or module = "./web.wasm"'
        )
    tag = section.read("image", Item.filled_text, f"{project}-{name}:latest" if building else "unreadable")
    build = None
    if building is not None:
        plain.setdefault("pull", PullPolicy.NEVER)  # nobody but this build has the image
        build = _build(building, tag, name, project, context)
    return ContainerImage(image=tag, **plain), build


def _build(item: Item, tag: str, name: ServiceName, project: ProjectName, context: Context) -> BuildSpec | None:
    dockerfile, args, target = "Dockerfile", {}, None
    if item.is_table:
        table = Section(item, ("context", "dockerfile", "args", "target"))
        where = table.read("context", Item.filled_text, ".")
        dockerfile = table.read("dockerfile", Item.filled_text, "Dockerfile")
        args = table.read("args", Item.string_map, {})
        target = table.read("target", Item.filled_text, None)
    else:
        where = item.filled_text() or "."
    path = resolve_path(item, where, context.directory, context.environment)
    if path is None:
        return None
    return BuildSpec(
        service=service_id(project, name), image=tag, context=path, dockerfile=dockerfile, args=args, target=target
    )
