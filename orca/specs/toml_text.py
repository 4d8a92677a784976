"""TOML text to a document whose every value knows its line."""

import re
import tomllib
from typing import Any, Final

from orca.specs.document import DEPTH_MAX, Node
from orca.specs.findings import Findings, shown
from orca.specs.toml_lines import NestedTooDeepError, Path, TomlPlaces, find_places

_PLACE: Final = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)\s*$")
_DUPLICATE_WORDS: Final = ("overwrite", "twice", "duplicate")


def parse_toml(text: str, findings: Findings) -> Node | None:
    """The document that `text` holds; None after recording why it is no TOML."""
    try:
        places = find_places(text)
    except NestedTooDeepError as problem:
        findings.refuse(problem.line, "", str(problem), f"at most {DEPTH_MAX} levels")
        return None
    try:
        values = tomllib.loads(text)
    except RecursionError:
        findings.refuse(1, "", "tables or lists are nested too deep", f"at most {DEPTH_MAX} levels")
        return None
    except ValueError as problem:
        _refuse_syntax(text, str(problem), places, findings)
        return None
    return _to_node(values, (), 1, places.lines)


def _refuse_syntax(text: str, message: str, places: TomlPlaces, findings: Findings) -> None:
    if places.duplicates and any(word in message.lower() for word in _DUPLICATE_WORDS):
        for twice in places.duplicates:
            name = shown(str(twice.path[-1]))
            findings.refuse(
                twice.line,
                dotted(twice.path),
                f"key {name} is given twice, first on line {twice.first_line}",
                "each key once in a table",
            )
        return
    place = _PLACE.search(message)
    end = text.count("\n") + (0 if text.endswith("\n") else 1)
    line = int(place[1]) if place is not None and place[1] else max(1, end)
    column = f" (column {place[2]})" if place is not None and place[2] else ""
    what = _PLACE.sub("", message) or "cannot be read"
    findings.refuse(line, "", f"this is no TOML: {what}{column}", "TOML 1.0")


def _to_node(value: Any, path: Path, line: int, lines: dict[Path, int]) -> Node:
    line = lines.get(path, line)
    if isinstance(value, dict):
        return Node({str(key): _to_node(child, (*path, key), line, lines) for key, child in value.items()}, line)
    if isinstance(value, list):
        return Node(tuple(_to_node(child, (*path, n), line, lines) for n, child in enumerate(value)), line)
    return Node(value, line)


def dotted(path: Path) -> str:
    """`path` as people write it: `service[0].resources.memory`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
