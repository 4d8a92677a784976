"""Reads a Compose file: the top level, and which of its services take part."""

import re
from typing import Final

from orca.model.ids import DEFAULT_PROJECT, ProjectName, ServiceName
from orca.specs import compose_keys as keys
from orca.specs.compose_parts import Declared
from orca.specs.compose_service import ComposeService, read_service
from orca.specs.document import Node
from orca.specs.findings import shown
from orca.specs.reading import SERVICES_MAX, Context, ReadService
from orca.specs.section import Item, Section

_EVERY_PROFILE: Final = "*"


def read_compose_file(root: Node, context: Context) -> list[ReadService]:
    """Every active service of a Compose document; problems go to the context's findings."""
    item = Item(root, "", context.findings)
    top = Section(item, keys.FILE_KEYS, refused=keys.FILE_REFUSED, allows_extensions=True)
    if (version := top.get("version")) is not None:
        version.ignore("the Compose specification needs no version")
    project = ProjectName(top.read("name", Item.filled_text, context.project or DEFAULT_PROJECT))
    given = top.get("services")
    entries = [] if given is None else given.entries()
    if len(entries) > SERVICES_MAX:
        context.findings.refuse(1, "services", f"{len(entries)} services are too many", f"at most {SERVICES_MAX}")
        return []
    if not entries and item.is_table:
        context.findings.refuse(1, "services", "the file has no service", "services: with at least one entry")
    declared = _declared(top)
    names = {raw: _orca_name(raw, entry) for raw, entry in entries}
    inactive = frozenset(raw for raw, entry in entries if not _is_active(entry, context.profiles))
    completed = {name for raw, entry in entries if raw not in inactive for name in _waits_for_completion(entry)}
    read: list[ReadService] = []
    for raw, entry in entries:
        if raw in inactive:
            entry.ignore("the service is switched off: none of its profiles is active")
            continue
        service = ComposeService(
            item=entry,
            raw_name=raw,
            name=names[raw],
            project=project,
            names=names,
            inactive=inactive,
            completes=raw in completed,
            declared=declared,
        )
        read.append(read_service(service, context))
    if entries and not read:
        context.findings.refuse(given.line if given else 1, "services", "every service is switched off by its profiles")
    return read


def _declared(top: Section) -> Declared:
    networks: list[str] = []
    for name, entry in [] if (given := top.get("networks")) is None else given.entries():
        networks.append(name)
        if entry.node.value is not None:
            _refuse_unless_false(entry, keys.NETWORK_REFUSED, keys.NETWORK_IGNORED, ())
    volumes: dict[str, str] = {}
    for name, entry in [] if (given := top.get("volumes")) is None else given.entries():
        volumes[name] = name
        if entry.node.value is not None:
            labels = {"labels": "labels of volumes are not set"}
            table = _refuse_unless_false(entry, keys.VOLUME_REFUSED, labels, ("name", "driver"))
            if (driver := table.get("driver")) is not None:
                driver.choice({"local": True})
            volumes[name] = table.read("name", Item.filled_text, name)
    configs = {} if (given := top.get("configs")) is None else dict(given.entries())
    secrets = {} if (given := top.get("secrets")) is None else dict(given.entries())
    return Declared(networks=frozenset(networks), volumes=volumes, configs=configs, secrets=secrets)


def _refuse_unless_false(
    item: Item, refused: dict[str, str], ignored: dict[str, str], known: tuple[str, ...]
) -> Section:
    """A table whose refused keys may still be given as `false` or as an empty table, which ask for nothing."""
    idle = {
        key: "it is off"
        for key, entry in (item.entries() if item.is_table else [])
        if key in refused and entry.node.value in ("false", "no", {}, None)
    }
    active = {key: why for key, why in refused.items() if key not in idle}
    return Section(item, known, refused=active, ignored={**ignored, **idle}, allows_extensions=True)


def _orca_name(raw: str, item: Item) -> ServiceName:
    """`raw` as a host name label; what it was called stays an alias in its networks."""
    name = re.sub(r"[^a-z0-9-]+", "-", raw.lower()).strip("-")
    if not name or name == raw or len(raw) > 63:
        return ServiceName(raw)
    item.ignore(f"the service is called {shown(name)} in Orca; neighbours may go on using {shown(raw)}")
    return ServiceName(name)


def _is_active(item: Item, profiles: frozenset[str]) -> bool:
    value = item.node.value
    if not isinstance(value, dict) or "profiles" not in value:
        return True
    entry = dict(item.entries())["profiles"]
    wanted = entry.strings()
    return not wanted or _EVERY_PROFILE in profiles or any(profile in profiles for profile in wanted)


def _waits_for_completion(item: Item) -> list[str]:
    """The services that `item` depends on until they have completed."""
    value = item.node.value
    given = value.get("depends_on") if isinstance(value, dict) else None
    if given is None or not isinstance(given.value, dict):
        return []
    found = []
    for name, entry in given.value.items():
        condition = entry.value.get("condition") if isinstance(entry.value, dict) else None
        if condition is not None and condition.value == "service_completed_successfully":
            found.append(name)
    return found
