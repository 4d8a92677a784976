"""Small notations that both formats share: command lines, volumes, paths, modes, environments."""

import posixpath
import re
import shlex
from collections.abc import Mapping
from typing import Final

from orca.model.spec import MountKind, MountSpec
from orca.specs.findings import shown
from orca.specs.section import Item

_VOLUME_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_MODE: Final = re.compile(r"(?:0o)?[0-7]{1,4}")


def read_argv(item: Item) -> tuple[str, ...] | None:
    """An argument vector: a list of strings, or one string that is split as a shell would."""
    if item.is_list:
        return item.strings()
    text = item.text()
    if text is None:
        return None
    try:
        return tuple(shlex.split(text))
    except ValueError as problem:
        item.refuse(f"the command cannot be split into words: {problem}", 'balanced quotes, or a list such as ["sh"]')
        return None


def read_mode(item: Item) -> int | None:
    """A file mode: `"0640"` is octal in a string; a TOML number is itself (`0o640`)."""
    value = item.node.value
    if isinstance(value, int) and not isinstance(value, bool):
        return item.integer()
    text = item.text()
    if text is None:
        return None
    if not _MODE.fullmatch(text):
        item.refuse(f"{shown(text)} is no file mode", '"0444", "0640"')
        return None
    return int(text.removeprefix("0o"), 8)


def read_volume(item: Item, directory: str | None, environment: Mapping[str, str]) -> MountSpec | None:
    """A mount from `source:target[:ro|rw]`: a name is a volume, a path is one of the node.

    The source of `target` alone stays empty: what that means is up to the format.
    """
    text = item.filled_text()
    if text is None:
        return None
    parts = text.split(":")
    read_only = False
    if len(parts) == 3:
        options = parts.pop().split(",")
        unknown = [
            option for option in options if option not in {"ro", "rw", "z", "Z", "cached", "delegated", "consistent"}
        ]
        if unknown:
            item.refuse(f"option {shown(unknown[0])} of a volume is not supported", "ro, rw")
            return None
        read_only = "ro" in options
    if len(parts) > 2 or not all(parts):
        item.refuse(f"{shown(text)} is no volume", "name:/path, name:/path:ro, /path/of/node:/path")
        return None
    target = clean_target(parts[-1])
    if len(parts) == 1:
        return MountSpec(target=target, read_only=read_only)
    source = parts[0]
    if source.startswith(("/", ".", "~")):
        bound = resolve_path(item, source, directory, environment)
        return (
            None if bound is None else MountSpec(target=target, kind=MountKind.BIND, source=bound, read_only=read_only)
        )
    if not _VOLUME_NAME.fullmatch(source):
        item.refuse(
            f"{shown(source)} is no volume name", "letters, digits, '_', '.' and '-'; a path starts with / or ./"
        )
        return None
    return MountSpec(target=target, source=source, read_only=read_only)


def clean_target(path: str) -> str:
    """`path` without a trailing slash, which means nothing for a mount."""
    return path.rstrip("/") or path


def resolve_path(item: Item, path: str, directory: str | None, environment: Mapping[str, str]) -> str | None:
    """`path` made absolute against `directory`; None after recording that there is none."""
    if path.startswith("~"):
        home = environment.get("HOME", "") if path == "~" or path.startswith("~/") else ""
        if not home.startswith("/"):
            item.refuse(f"{shown(path)} names a home directory that is not known", "an absolute path")
            return None
        return posixpath.normpath(home + path[1:])
    if path.startswith("/"):
        return posixpath.normpath("/" + path.lstrip("/"))
    if directory is None:
        item.refuse(f"{shown(path)} is relative, and this spec has no directory", "an absolute path of the node")
        return None
    return posixpath.normpath(posixpath.join(directory, path))


def read_hosts(item: Item) -> tuple[str, ...] | None:
    """Entries for /etc/hosts as `name:address`, from a list (`name=address` too) or a table."""
    if item.is_table:
        return tuple(f"{name}:{address}" for name, address in item.string_map().items())
    found = []
    for text in item.strings():
        name, mark, address = text.partition("=") if "=" in text else text.partition(":")
        found.append(f"{name.strip()}:{address.strip()}" if mark else text)
    return tuple(found)
