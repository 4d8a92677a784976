"""The parts of a Compose service: ports, volumes, health, rollout, placement, files."""

import math
import posixpath
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from orca.model.spec import (
    DeploySpec,
    ExecCheck,
    FileSpec,
    LogSpec,
    MountKind,
    MountSpec,
    PortSpec,
    ProbeSpec,
    Protocol,
    Resources,
    RestartPolicy,
    RestartSpec,
    UpdateOrder,
)
from orca.specs import compose_keys as keys
from orca.specs.findings import shown
from orca.specs.ports import PORT_ALLOWED, parse_ports, parse_range
from orca.specs.reading import Context
from orca.specs.section import Item, Section
from orca.specs.service_parts import make_deploy
from orca.specs.words import clean_target, read_mode, read_volume, resolve_path

_ON_FAILURE: Final = re.compile(r"on-failure(?::([0-9]{1,9}))?")
_DOCKER_INTERVAL_S: Final = 30.0
_DOCKER_TIMEOUT_S: Final = 30.0


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What the top level of a Compose file declares, by name.

    `volumes` gives the name under which a volume is kept; `configs` and `secrets` their
    definitions.
    """

    networks: frozenset[str]
    volumes: Mapping[str, str]
    configs: Mapping[str, Item]
    secrets: Mapping[str, Item]


def read_pairs(item: Item, environment: Mapping[str, str]) -> dict[str, str]:
    """A table or a list of `NAME=value`; a name alone takes its value from the environment or is left out."""
    given: list[tuple[str, str | None]] = []
    if item.is_table:
        given = [(name, None if entry.node.value is None else entry.text()) for name, entry in item.entries()]
    else:
        for entry in item.items():
            text = entry.filled_text()
            if text is not None:
                name, mark, value = text.partition("=")
                given.append((name, value if mark else None))
    filled = ((name, environment.get(name) if value is None else value) for name, value in given)
    return {name: value for name, value in filled if value is not None}


def read_labels(item: Item) -> dict[str, str]:
    """A table or a list of `name=value`; a name alone has an empty value."""
    if item.is_table:
        return {name: "" if entry.node.value is None else entry.text() or "" for name, entry in item.entries()}
    return {name: value for name, _, value in (text.partition("=") for text in item.strings())}


def read_ports(section: Section, origins: dict[str, Item]) -> tuple[PortSpec, ...]:
    """`ports`, then those of `expose` that are not among them."""
    found: list[PortSpec] = []
    for item in [] if (ports := section.get("ports")) is None else ports.items():
        made = _long_port(item) if item.is_table else _short_port(item)
        if made and made[0].host_port is None:
            item.ignore("no host port is given, so none is published; routes and neighbours reach the port")
        for port in made:
            origins[f"ports[{len(found)}]"] = item
            found.append(port)
    for item in [] if (expose := section.get("expose")) is None else expose.items():
        for port in _short_port(item):
            if any((known.port, known.protocol) == (port.port, port.protocol) for known in found):
                continue
            origins[f"ports[{len(found)}]"] = item
            found.append(port)
    return tuple(found)


def _short_port(item: Item) -> tuple[PortSpec, ...]:
    text = item.text()
    if text is None:
        return ()
    try:
        return parse_ports(text)
    except ValueError as problem:
        item.refuse(str(problem), PORT_ALLOWED)
        return ()


def _long_port(item: Item) -> tuple[PortSpec, ...]:
    ignored = dict.fromkeys(("mode", "name", "app_protocol"), "every copy publishes on its own node")
    table = Section(item, ("target", "published", "host_ip", "protocol"), ignored=ignored, allows_extensions=True)
    target = table.read("target", Item.integer, None)
    protocol = table.read("protocol", lambda one: one.choice({p.value: p for p in Protocol}), Protocol.TCP)
    if target is None:
        if not table.has("target"):
            item.refuse("the port has no target", "target: 80")
        return ()
    published = table.get("published")
    text = None if published is None else published.text()
    if published is None or not text:
        return (PortSpec(port=target, protocol=protocol),)
    try:
        hosts = parse_range(text)
    except ValueError as problem:
        published.refuse(str(problem), '"8080"')
        return ()
    if len(hosts) != 1:
        published.refuse("a range would publish a port of the engine's choice", 'one number such as "8080"')
        return ()
    made = PortSpec(port=target, protocol=protocol, host_port=hosts[0])
    host_ip = table.read("host_ip", Item.text, made.host_ip)
    return (msgspec.structs.replace(made, host_ip=host_ip),)


def read_mounts(
    section: Section, origins: dict[str, Item], service: str, declared: Declared, context: Context
) -> tuple[MountSpec, ...]:
    """`volumes` and `tmpfs`; an anonymous volume is kept under a name made of service and target."""
    found: list[MountSpec] = []
    for item in [] if (volumes := section.get("volumes")) is None else volumes.items():
        mount = _long_volume(item, context) if item.is_table else _short_volume(item, context)
        if mount is None:
            continue
        if mount.kind is MountKind.VOLUME and not mount.source:
            name = service + re.sub(r"[^A-Za-z0-9_.]+", "-", mount.target)[:64].rstrip("-")
            item.ignore(f"the anonymous volume is kept under the name {name!r}")
            mount = msgspec.structs.replace(mount, source=name)
        elif mount.kind is MountKind.VOLUME:
            kept = declared.volumes.get(mount.source)
            if kept is None:
                allowed = "one of " + ", ".join(declared.volumes) if declared.volumes else "a name under `volumes:`"
                item.refuse(f"volume {shown(mount.source)} is not declared at the top level", allowed)
                continue
            mount = msgspec.structs.replace(mount, source=kept)
        origins[f"mounts[{len(found)}]"] = item
        found.append(mount)
    for item in [] if (tmpfs := section.get("tmpfs")) is None else tmpfs.items_or_one():
        mount = _tmpfs(item)
        if mount is not None:
            origins[f"mounts[{len(found)}]"] = item
            found.append(mount)
    return tuple(found)


def _short_volume(item: Item, context: Context) -> MountSpec | None:
    return read_volume(item, context.directory, context.environment)


def _long_volume(item: Item, context: Context) -> MountSpec | None:
    table = Section(
        item,
        ("type", "source", "target", "read_only", "bind", "volume", "tmpfs"),
        ignored={"consistency": "it has no effect on Linux"},
        refused={"image": ""},
        allows_extensions=True,
    )
    kind = table.read("type", lambda one: one.choice({k.value: k for k in MountKind}), None)
    target = table.read("target", Item.filled_text, None)
    if kind is None or target is None:
        if not table.has("type") or not table.has("target"):
            item.refuse("the volume needs a type and a target", "type: volume, source: data, target: /data")
        return None
    for key, ignored, refused in (
        ("bind", ("create_host_path", "selinux"), ("propagation", "recursive")),
        ("volume", ("nocopy", "labels"), ("subpath",)),
    ):
        if (options := table.get(key)) is not None:
            Section(
                options,
                (),
                ignored=dict.fromkeys(ignored, "what Orca does is the same without it"),
                refused=dict.fromkeys(refused, ""),
                allows_extensions=True,
            )
    size = None
    if (options := table.get("tmpfs")) is not None:
        size = Section(options, ("size",), ignored={"mode": "it is writable for everybody"}).read(
            "size", Item.size, None
        )
    source = table.read("source", Item.text, "")
    given = table.get("source")
    if kind is MountKind.BIND and given is not None:
        source = resolve_path(given, source, context.directory, context.environment) or "/unreadable"
    read_only = table.read("read_only", Item.boolean, False)
    return MountSpec(target=clean_target(target), kind=kind, source=source, read_only=read_only, size_bytes=size)


def _tmpfs(item: Item) -> MountSpec | None:
    text = item.filled_text()
    if text is None:
        return None
    target, _, options = text.partition(":")
    size = None
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "size":
            node = msgspec.structs.replace(item.node, value=value)
            size = Item(node, item.key, item.findings).size()
        else:
            item.ignore(f"tmpfs option {shown(option)} is not set")
    return MountSpec(target=clean_target(target), kind=MountKind.TMPFS, size_bytes=size)


def read_healthcheck(item: Item) -> dict[str, ProbeSpec]:
    """Docker's health check as probes: unready and restarted after `retries` failures.

    With a start period the startup probe holds both back until the check passes once,
    and gives up after the start period and `retries` more failures.
    """
    table = Section(
        item,
        ("test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"),
        allows_extensions=True,
    )
    if table.read("disable", Item.boolean, False):
        return {}
    test = table.get("test")
    if test is None:
        item.refuse("the health check has no test", 'test: ["CMD", "pg_isready"]')
        return {}
    command = _test(test)
    if command is None:
        return {}
    interval = table.read("interval", Item.duration, _DOCKER_INTERVAL_S) or _DOCKER_INTERVAL_S
    timeout = table.read("timeout", Item.duration, _DOCKER_TIMEOUT_S) or _DOCKER_TIMEOUT_S
    retries = table.read("retries", Item.integer, 3) or 3
    start_period = table.read("start_period", Item.duration, 0.0)
    start_interval = table.read("start_interval", Item.duration, None) or min(interval, 5.0)
    check = ExecCheck(command=command)
    probe = ProbeSpec(check=check, interval_s=interval, timeout_s=timeout, failure_threshold=retries)
    probes = {"readiness": probe, "liveness": probe}
    if start_period > 0:
        tries = math.ceil(start_period / start_interval) + max(retries, 1)
        probes["startup"] = ProbeSpec(
            check=check, interval_s=start_interval, timeout_s=timeout, failure_threshold=tries
        )
    return probes


def _test(item: Item) -> tuple[str, ...] | None:
    """The command of a `test`; None when it is NONE or cannot be read."""
    if not item.is_list:
        text = item.filled_text()
        if text is None or text == "NONE":
            return None
        return ("/bin/sh", "-c", text)
    words = item.strings()
    kind = words[0] if words else ""
    if kind == "NONE" and len(words) == 1:
        return None
    if kind == "CMD" and len(words) > 1:
        return words[1:]
    if kind == "CMD-SHELL" and len(words) == 2:
        return ("/bin/sh", "-c", words[1])
    item.refuse(f"{shown(kind)} is no kind of test", '["CMD", "pg_isready"], ["CMD-SHELL", "pg_isready -q"], ["NONE"]')
    return None


def read_deploy(update: Item | None, replicas: int, *, publishes: bool) -> DeploySpec:
    """`deploy.update_config`; without an order as for service files, not Docker's stop-first."""
    plain: dict[str, Any] = {}
    if update is not None:
        table = Section(update, keys.UPDATE_KEYS, ignored=keys.UPDATE_IGNORED, allows_extensions=True)
        order = table.read("order", lambda one: one.choice({o.value: o for o in UpdateOrder}), None)
        if order is not None:
            plain["order"] = order
        if (action := table.get("failure_action")) is not None:
            action.choice({"pause": True, "rollback": True})
            plain["auto_rollback"] = action.node.value == "rollback"
        if (delay := table.read("delay", Item.duration, None)) is not None:
            plain["min_healthy_time_s"] = delay
            plain["deadline_s"] = DeploySpec().deadline_s + delay
        parallelism = table.read("parallelism", Item.integer, None)
        if parallelism is not None:
            count = max(replicas, 1) if parallelism == 0 else parallelism
            stops_first = make_deploy(dict(plain), publishes=publishes).order is UpdateOrder.STOP_FIRST
            plain["max_unavailable" if stops_first else "max_surge"] = count
    return make_deploy(plain, publishes=publishes)


def read_resources(section: Section, item: Item | None) -> Resources:
    """`deploy.resources.limits`, or else `cpus`, `mem_limit` and `pids_limit`."""
    pids = section.read("pids_limit", Item.integer, None)
    cpu, memory = section.read("cpus", Item.cpu, None), section.read("mem_limit", Item.size, None)
    pids = None if pids is not None and pids <= 0 else pids
    if item is not None:
        table = Section(
            item,
            ("limits", "reservations"),
            allows_extensions=True,
        )
        if (limits := table.get("limits")) is not None:
            limit = Section(limits, ("cpus", "memory", "pids"), allows_extensions=True)
            cpu = limit.read("cpus", Item.cpu, cpu)
            memory = limit.read("memory", Item.size, memory)
            pids = limit.read("pids", Item.integer, pids)
        if (reservations := table.get("reservations")) is not None:
            why = "nothing is reserved; set a limit"
            Section(
                reservations,
                (),
                ignored={"cpus": why, "memory": why, "pids": why},
                refused={"devices": "", "generic_resources": ""},
                allows_extensions=True,
            )
    return Resources(cpu_milli=cpu, memory_bytes=memory, pids_max=pids)


def read_restart(section: Section, policy: Item | None, *, completes: bool) -> RestartSpec:
    """`deploy.restart_policy`, else `restart`, else by what the others wait for.

    Docker restarts nothing that does not ask for it. Here a service without a word is kept
    running, unless a neighbour waits for its completion: then it is a job.
    """
    given = section.get("restart")
    spec = RestartSpec(policy=RestartPolicy.NEVER if completes else RestartPolicy.ALWAYS)
    if given is not None and (word := given.text()) is not None:
        match = _ON_FAILURE.fullmatch(word)
        if match is not None:
            attempts = int(match[1]) if match[1] else None
            spec = RestartSpec(policy=RestartPolicy.ON_FAILURE, attempts_max=attempts)
        else:
            # YAML writes the bare word `no` as false; both spellings mean the same here.
            words = {
                "no": RestartPolicy.NEVER,
                "false": RestartPolicy.NEVER,
                "always": RestartPolicy.ALWAYS,
                "unless-stopped": RestartPolicy.ALWAYS,
            }
            if word not in words:
                given.refuse(f"{shown(word)} is no restart policy", '"no", always, on-failure[:3], unless-stopped')
            spec = RestartSpec(policy=words.get(word, spec.policy))
    if policy is None:
        return spec
    table = Section(
        policy,
        ("condition", "max_attempts"),
        ignored=dict.fromkeys(("delay", "window"), "the delay grows from 1 s to 5 min by itself"),
        allows_extensions=True,
    )
    conditions = {"any": RestartPolicy.ALWAYS, "on-failure": RestartPolicy.ON_FAILURE, "none": RestartPolicy.NEVER}
    chosen = table.read("condition", lambda one: one.choice(conditions), RestartPolicy.ALWAYS)
    attempts = table.read("max_attempts", Item.integer, None)
    if attempts is not None and chosen is not RestartPolicy.ON_FAILURE:
        policy.ignore("max_attempts only counts with condition: on-failure")
        attempts = None
    return RestartSpec(policy=chosen, attempts_max=attempts)


def read_log(item: Item) -> LogSpec:
    """`logging`: the sizes of the file drivers; Orca collects the output whatever the driver."""
    table = Section(item, ("driver", "options"), allows_extensions=True)
    driver = table.read("driver", Item.text, "json-file")
    if driver not in {"json-file", "local"}:
        item.ignore(f"driver {shown(driver)} is not used; Orca keeps the output itself")
        return LogSpec()
    default = LogSpec()
    if (options := table.get("options")) is None:
        return default
    known = ("max-size", "max-file")
    others = [key for key, _ in options.entries() if key not in known]
    pairs = Section(options, known, ignored=dict.fromkeys(others, "this log option is not set"))
    return LogSpec(
        file_bytes_max=pairs.read("max-size", Item.size, default.file_bytes_max),
        files_max=pairs.read("max-file", Item.integer, default.files_max),
    )


def read_files(
    section: Section, origins: dict[str, Item], declared: Declared, context: Context
) -> tuple[FileSpec, ...]:
    """`configs`, mounted at `/<name>`, and `secrets`, mounted at `/run/secrets/<name>`."""
    found: list[FileSpec] = []
    for key, definitions, root in (("configs", declared.configs, "/"), ("secrets", declared.secrets, "/run/secrets/")):
        for item in [] if (given := section.get(key)) is None else given.items():
            mode, name, target = 0o444, None, None
            if item.is_table:
                why = "the file belongs to root"
                table = Section(
                    item, ("source", "target", "mode"), ignored={"uid": why, "gid": why}, allows_extensions=True
                )
                name = table.read("source", Item.filled_text, None)
                target = table.read("target", Item.filled_text, None)
                mode = table.read("mode", read_mode, 0o444)
            else:
                name = item.filled_text()
            if name is None or name not in definitions:
                allowed = "one of " + ", ".join(definitions) if definitions else f"a name under `{key}:`"
                item.refuse(f"{key[:-1]} {shown(name or '')} is not declared at the top level", allowed)
                continue
            path = posixpath.join(root, target or name)
            file = (
                _secret_file(path, name, definitions[name], context)
                if key == "secrets"
                else _config_file(path, definitions[name], context)
            )
            if file is not None:
                origins[f"files[{len(found)}]"] = item
                found.append(msgspec.structs.replace(file, mode=mode))
    return tuple(found)


def _config_file(path: str, definition: Item, context: Context) -> FileSpec | None:
    content = _content(definition, context)
    return None if content is None else FileSpec(target=path, content=context.files.keep(content))


def _secret_file(path: str, name: str, definition: Item, context: Context) -> FileSpec | None:
    """A secret of the cluster: one that is there (`external`), or one whose value the file gives."""
    if definition.is_table and any(key == "external" for key, _ in definition.entries()):
        table = Section(definition, ("external", "name"), allows_extensions=True)
        if table.read("external", Item.boolean, False):
            return FileSpec(target=path, secret=table.read("name", Item.filled_text, name))
        definition.refuse("external is false and there is no content", "external: true, or file, content, environment")
        return None
    content = _content(definition, context)
    if content is None:
        return None
    context.files.secrets[name] = content
    return FileSpec(target=path, secret=name)


def _content(definition: Item, context: Context) -> bytes | None:
    """The bytes of a top-level config or secret; None after recording why there are none."""
    refused = {"external": "give its content by file, content or environment", "driver": "", "template_driver": ""}
    ignored = dict.fromkeys(("name", "labels"), "it is kept under the hash of its content")
    table = Section(
        definition, ("file", "content", "environment"), refused=refused, ignored=ignored, allows_extensions=True
    )
    source = table.exclusive("file", "content", "environment")
    text = None if source is None else source.text()
    if source is None or text is None:
        if source is None:
            definition.refuse("it has no content", "file: ./path, content: text or environment: NAME")
        return None
    if source is table.get("file"):
        return context.files.load(source, text)
    if source is table.get("content"):
        return text.encode()
    if text not in context.environment:
        source.refuse(f"variable {shown(text)} is not set", "a variable of the environment or of .env")
        return None
    return context.environment[text].encode()
