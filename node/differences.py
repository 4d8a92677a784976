"""What changed between two specs, field by field, for people."""

from typing import Any

import msgspec

from orca.model.spec import Protocol, ServiceSpec, canonical
from orca.model.view import FieldChange

_NAMED_BY = {
    "ports": "port",
    "mounts": "target",
    "files": "target",
    "depends_on": "service",
    "source.ulimits": "name",
}


def field_changes(before: ServiceSpec | None, after: ServiceSpec | None) -> tuple[FieldChange, ...]:
    """Every field that differs, by dotted key; values are JSON texts, empty where absent.

    Lists of named things are compared by name (`ports.80.host_port`), so that adding one
    does not show all that follow as changed. A spec names secrets and never holds their values.
    """
    old = {} if before is None else _flatten(before)
    new = {} if after is None else _flatten(after)
    keys = list(dict.fromkeys((*old, *new)))
    return tuple(
        FieldChange(key=key, before=old.get(key, ""), after=new.get(key, ""))
        for key in sorted(keys)
        if old.get(key, "") != new.get(key, "")
    )


def _flatten(spec: ServiceSpec) -> dict[str, str]:
    found: dict[str, str] = {}
    plain = canonical(spec)
    _walk("", plain, found)
    for key in ("name", "project"):
        found.pop(key, None)
    return found


def _walk(prefix: str, value: Any, found: dict[str, str]) -> None:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            _walk(f"{prefix}.{key}" if prefix else str(key), inner, found)
    elif isinstance(value, list | tuple) and prefix in _NAMED_BY and value:
        for name, inner in zip(_unique_names(prefix, value), value, strict=True):
            _walk(f"{prefix}.{name}", inner, found)
    elif isinstance(value, list | tuple) and prefix == "routes" and value:
        for inner in value:
            _walk(f"{prefix}.{inner.get('domain') or '*'}{inner.get('path', '/')}", inner or {"path": "/"}, found)
    else:
        found[prefix] = msgspec.json.encode(value).decode()


def _unique_names(prefix: str, value: list[Any] | tuple[Any, ...]) -> list[str]:
    """What each item is called; a name that comes again (53/tcp and 53/udp) gets what tells it apart."""
    names = [str(inner[_NAMED_BY[prefix]]) for inner in value]
    return [
        f"{name}/{inner.get('protocol', Protocol.TCP.value)}" if prefix == "ports" and names.count(name) > 1 else name
        for name, inner in zip(names, value, strict=True)
    ]
