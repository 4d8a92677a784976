"""One entry under `services:` of a Compose file to a spec."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from orca.model.build import BuildSpec
from orca.model.ids import ProjectName, ServiceName, service_id
from orca.model.spec import (
    ContainerImage,
    DependencyCondition,
    DependencySpec,
    DeploySpec,
    HttpCheck,
    LogSpec,
    PlacementSpec,
    PortSpec,
    ProbeSpec,
    PullPolicy,
    RouteSpec,
    ServiceMode,
    ServiceSpec,
)
from orca.specs import compose_keys as keys
from orca.specs import compose_parts as parts
from orca.specs.compose_placement import read_placement
from orca.specs.env_text import EnvTextError, parse_env
from orca.specs.findings import shown
from orca.specs.placement import read_mode
from orca.specs.reading import Context, ReadService, note_origins
from orca.specs.section import Item, Section
from orca.specs.service_parts import clean_prefix, read_ulimits
from orca.specs.words import read_argv, read_hosts, resolve_path

_READERS: Final[dict[str, tuple[str, Callable[[Item], Any]]]] = {
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
_PULL_POLICIES: Final = {
    "always": PullPolicy.ALWAYS,
    "missing": PullPolicy.MISSING,
    "if_not_present": PullPolicy.MISSING,
    "never": PullPolicy.NEVER,
    "build": PullPolicy.NEVER,
}
_CONDITIONS: Final = {
    "service_started": DependencyCondition.STARTED,
    "service_healthy": DependencyCondition.HEALTHY,
    "service_completed_successfully": DependencyCondition.COMPLETED,
}
_LABELS: Final = ("orca.domain", "orca.path", "orca.health")


class ComposeService(msgspec.Struct, frozen=True, kw_only=True):
    """A service of the file before it is read: its entry, its names, its place in the whole.

    `names` gives the Orca name of every service of the file, `inactive` those whose
    profiles are off, `completes` says that a neighbour waits for its completion.
    """

    item: Item
    raw_name: str
    name: ServiceName
    project: ProjectName
    names: Mapping[str, ServiceName]
    inactive: frozenset[str]
    completes: bool
    declared: parts.Declared


def open_service(item: Item) -> Section:
    """The service's table; its unknown and unsupported keys are recorded."""
    return Section(
        item, keys.SERVICE_KEYS, refused=keys.SERVICE_REFUSED, ignored=keys.SERVICE_IGNORED, allows_extensions=True
    )


def read_service(service: ComposeService, context: Context) -> ReadService:
    """One service; problems go to the context's findings."""
    section = open_service(service.item)
    origins: dict[str, Item] = {}
    _note_fields(section, origins)
    given = section.get("deploy")
    deploy = (
        None if given is None else Section(given, keys.DEPLOY_KEYS, ignored=keys.DEPLOY_IGNORED, allows_extensions=True)
    )
    replicas = _replicas(section, deploy, origins)
    source, build = _source(section, service, context, origins)
    ports = parts.read_ports(section, origins)
    labels, from_labels = _labels(section, deploy, origins)
    healthcheck = section.get("healthcheck")
    probes = {} if healthcheck is None else parts.read_healthcheck(healthcheck)
    for name in probes:
        origins[name] = healthcheck or service.item
    probes |= _health_label(from_labels, origins)
    networks, aliases = _networks(section, service)
    placement = None if deploy is None else deploy.get("placement")
    rollout = parts.read_deploy(
        None if deploy is None else deploy.get("update_config"),
        replicas,
        publishes=any(port.host_port is not None for port in ports),
    )
    spec = ServiceSpec(
        name=service.name,
        source=source,
        project=service.project,
        replicas=replicas,
        ports=ports,
        routes=_routes(from_labels, ports, origins),
        startup=probes.get("startup"),
        readiness=probes.get("readiness"),
        liveness=probes.get("liveness"),
        env=_env(section, context, origins),
        resources=parts.read_resources(section, None if deploy is None else deploy.get("resources")),
        mounts=parts.read_mounts(section, origins, service.name, service.declared, context),
        files=parts.read_files(section, origins, service.declared, context),
        networks=networks,
        aliases=aliases,
        restart=parts.read_restart(
            section, None if deploy is None else deploy.get("restart_policy"), completes=service.completes
        ),
        stop_timeout_s=section.read("stop_grace_period", Item.duration, 10.0),
        labels=labels,
        placement=PlacementSpec() if placement is None else read_placement(placement),
        mode=ServiceMode.REPLICATED if deploy is None else deploy.read("mode", read_mode, ServiceMode.REPLICATED),
        deploy=_with_time_to_start(rollout, probes.get("startup")),
        depends_on=_dependencies(section, service, origins),
        log=section.read("logging", parts.read_log, LogSpec()),
    )
    return ReadService(
        id=service_id(service.project, service.name), item=service.item, spec=spec, origins=origins, build=build
    )


def _note_fields(section: Section, origins: dict[str, Item]) -> None:
    fields = {
        "environment": "env",
        "labels": "labels",
        "networks": "networks",
        "deploy": "deploy",
        "depends_on": "depends_on",
        "logging": "log",
        "restart": "restart",
        "stop_grace_period": "stop_timeout_s",
        "mem_limit": "resources.memory_bytes",
        "cpus": "resources.cpu_milli",
        "pids_limit": "resources.pids_max",
    }
    for key, field in fields.items():
        if (item := section.get(key)) is not None:
            note_origins(origins, field, item)
    if (deploy := section.get("deploy")) is not None and deploy.is_table:
        for key, item in deploy.entries():
            if key == "resources":
                origins["resources"] = item
            elif key == "placement":
                origins["placement"] = item


def _replicas(section: Section, deploy: Section | None, origins: dict[str, Item]) -> int:
    given = None if deploy is None else deploy.get("replicas")
    given = section.get("scale") if given is None else given
    if given is None:
        return 1
    origins["replicas"] = given
    count = given.integer()
    return 1 if count is None else count


def _source(
    section: Section, service: ComposeService, context: Context, origins: dict[str, Item]
) -> tuple[ContainerImage, BuildSpec | None]:
    plain: dict[str, Any] = {}
    for key, (field, parse) in _READERS.items():
        if (entry := section.get(key)) is not None:
            origins[f"source.{field}"] = entry
            value = parse(entry)
            if value is not None:
                plain[field] = value
    image, building = section.get("image"), section.get("build")
    if image is None and building is None:
        section.item.refuse("the service has nothing to run", "image: nginx:alpine or build: .")
    if image is not None:
        origins["source.image"] = image
    tag = section.read(
        "image", Item.filled_text, f"{service.project}-{service.name}:latest" if building else "unreadable"
    )
    if building is not None:
        plain["pull"] = PullPolicy.NEVER  # nobody but this build has the image
    pull = section.read("pull_policy", lambda item: item.choice(_PULL_POLICIES), None)
    if pull is not None:
        plain["pull"] = pull
    return ContainerImage(image=tag, **plain), None if building is None else _build(building, tag, service, context)


def _build(item: Item, tag: str, service: ComposeService, context: Context) -> BuildSpec | None:
    dockerfile, args, target = "Dockerfile", {}, None
    if item.is_table:
        table = Section(
            item, keys.BUILD_KEYS, ignored=keys.BUILD_IGNORED, refused=keys.BUILD_REFUSED, allows_extensions=True
        )
        where = table.read("context", Item.filled_text, ".")
        dockerfile = table.read("dockerfile", Item.filled_text, "Dockerfile")
        args = table.read("args", lambda one: parts.read_pairs(one, context.environment), {})
        target = table.read("target", Item.filled_text, None)
    else:
        where = item.filled_text() or "."
    if "://" in where or where.startswith("git@"):
        item.refuse(f"{shown(where)} is no directory", "a directory beside the file, such as .")
        return None
    path = resolve_path(item, where, context.directory, context.environment)
    if path is None:
        return None
    identity = service_id(service.project, service.name)
    return BuildSpec(service=identity, image=tag, context=path, dockerfile=dockerfile, args=args, target=target)


def _env(section: Section, context: Context, origins: dict[str, Item]) -> dict[str, str]:
    """`env_file` in order, then `environment` over it."""
    found: dict[str, str] = {}
    for item in [] if (given := section.get("env_file")) is None else given.items_or_one():
        is_required = True
        path: str | None = None
        if item.is_table:
            table = Section(item, ("path", "required"), refused={"format": "leave it out"}, allows_extensions=True)
            path = table.read("path", Item.filled_text, None)
            is_required = table.read("required", Item.boolean, True)
            if not table.has("path"):
                item.refuse("the entry has no path", "path: ./web.env")
        else:
            path = item.filled_text()
        content = None if path is None else context.files.load(item, path, is_required=is_required)
        if content is None:
            continue
        values = _parse_env_file(item, path or "", content, context)
        for name in values:
            origins[f"env.{name}"] = item
        found |= values
    if (environment := section.get("environment")) is not None:
        values = parts.read_pairs(environment, context.environment)
        for name in values:
            origins.pop(f"env.{name}", None)
        note_origins(origins, "env", environment)
        found |= values
    return found


def _parse_env_file(item: Item, path: str, content: bytes, context: Context) -> dict[str, str]:
    try:
        values = parse_env(content.decode("utf-8-sig"), context.environment)
    except UnicodeDecodeError:
        item.refuse(f"file {shown(path)} is not UTF-8", "text in UTF-8")
        return {}
    except EnvTextError as problem:
        item.refuse(f"line {problem.line} of {shown(path)} cannot be read: {problem}", "NAME=value")
        return {}
    filled = ((name, context.environment.get(name) if value is None else value) for name, value in values.items())
    return {name: value for name, value in filled if value is not None}


def _labels(
    section: Section, deploy: Section | None, origins: dict[str, Item]
) -> tuple[dict[str, str], dict[str, tuple[Item, str]]]:
    """The labels of a copy, and those that are orders to Orca with their place."""
    found: dict[str, str] = {}
    orders: dict[str, tuple[Item, str]] = {}
    for holder in (deploy, section):
        item = None if holder is None else holder.get("labels")
        if item is None:
            continue
        for name, value in parts.read_labels(item).items():
            if name in _LABELS:
                orders[name] = (_entry(item, name), value)
            elif name.startswith("orca."):
                _entry(item, name).refuse(f"label {shown(name)} is not known to Orca", ", ".join(_LABELS))
            else:
                found[name] = value
    origins.setdefault("labels", section.item)
    return found, orders


def _entry(item: Item, name: str) -> Item:
    """The item of label `name` in a table or a list."""
    if item.is_table:
        return dict(item.entries())[name]
    return next(entry for entry in item.items() if str(entry.node.value).partition("=")[0] == name)


def _routes(
    orders: Mapping[str, tuple[Item, str]], ports: tuple[PortSpec, ...], origins: dict[str, Item]
) -> tuple[RouteSpec, ...]:
    """Routes from `orca.domain` (several with commas) and `orca.path`."""
    domain, path = orders.get("orca.domain"), orders.get("orca.path")
    item = (domain or path or (None, ""))[0]
    if item is None:
        return ()
    prefix = "/" if path is None else clean_prefix(path[1])
    names: list[str | None] = [None] if domain is None else [name.strip().lower() for name in domain[1].split(",")]
    for index in range(len(names)):
        origins[f"routes[{index}]"] = item
        if path is not None:
            origins[f"routes[{index}].path"] = path[0]
    return tuple(RouteSpec(domain=name, path=prefix) for name in names)


def _health_label(orders: Mapping[str, tuple[Item, str]], origins: dict[str, Item]) -> dict[str, ProbeSpec]:
    """`orca.health`: an HTTP path for readiness and liveness."""
    order = orders.get("orca.health")
    if order is None:
        return {}
    probe = ProbeSpec(check=HttpCheck(path=order[1]))
    origins["readiness"] = origins["liveness"] = order[0]
    return {"readiness": probe, "liveness": probe}


def _networks(section: Section, service: ComposeService) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The networks of a service and the names it has there besides its own."""
    aliases: list[str] = []
    given = section.get("networks")
    names: list[tuple[str, Item]] = []
    if given is not None and given.is_table:
        names = given.entries()
    elif given is not None:
        names = [(text, item) for item in given.items() if (text := item.filled_text()) is not None]
    for name, item in names:
        if name != "default" and name not in service.declared.networks:
            allowed = ", ".join(sorted({"default", *service.declared.networks}))
            item.refuse(f"network {shown(name)} is not declared at the top level", allowed)
        if item.is_table:
            table = Section(
                item,
                ("aliases",),
                ignored=keys.ATTACHMENT_IGNORED,
                refused=keys.ATTACHMENT_REFUSED,
                allows_extensions=True,
            )
            aliases += table.read("aliases", Item.strings, ())
    if service.raw_name != service.name:
        aliases.append(service.raw_name)
    for item in [] if (links := section.get("links")) is None else links.items():
        target, _, alias = (item.text() or "").partition(":")
        if alias and alias != target:
            item.refuse("a link cannot rename its target", "a network alias of the target")
        elif target not in service.names:
            item.refuse(f"service {shown(target)} does not exist", ", ".join(service.names))
        else:
            item.ignore("neighbours reach each other by name without links")
    unique = tuple(dict.fromkeys(name for name, _ in names)) or ("default",)
    return unique, tuple(dict.fromkeys(aliases))


def _dependencies(section: Section, service: ComposeService, origins: dict[str, Item]) -> tuple[DependencySpec, ...]:
    """`depends_on` as a list or a table with conditions."""
    given = section.get("depends_on")
    found: list[DependencySpec] = []
    entries: list[tuple[str, Item]] = []
    if given is not None and given.is_table:
        entries = given.entries()
    elif given is not None:
        entries = [(text, item) for item in given.items() if (text := item.filled_text()) is not None]
    for name, item in entries:
        condition, is_required = DependencyCondition.STARTED, True
        if item.is_table:
            why = "a neighbour that restarts does not restart this one"
            table = Section(item, ("condition", "required"), ignored={"restart": why}, allows_extensions=True)
            condition = table.read("condition", lambda one: one.choice(_CONDITIONS), DependencyCondition.STARTED)
            is_required = table.read("required", Item.boolean, True)
        if name in service.inactive or name not in service.names:
            if not is_required:
                item.ignore(f"service {shown(name)} is not part of this deployment and not required")
                continue
            if name in service.inactive:
                item.refuse(f"service {shown(name)} is switched off by its profiles", "a profile that includes it")
                continue
        origins[f"depends_on[{len(found)}]"] = item
        found.append(DependencySpec(service=service.names.get(name, ServiceName(name)), condition=condition))
    return tuple(found)


def _with_time_to_start(deploy: DeploySpec, startup: ProbeSpec | None) -> DeploySpec:
    """`deploy` with a deadline that outlasts the start period, so that a slow start is no failed one."""
    if startup is None:
        return deploy
    longest = startup.interval_s * startup.failure_threshold + startup.timeout_s
    return msgspec.structs.replace(deploy, deadline_s=max(deploy.deadline_s, longest + 30.0))
