"""Cursors over a parsed file that read typed values and record what does not fit.

A reader never stops at the first fault: every method answers None (or the default)
after recording the problem, so that one pass finds them all.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from orca.model.units import Bytes, MilliCpu, parse_bytes, parse_cpu, parse_duration_s
from orca.specs.document import Node, kind_of
from orca.specs.findings import Findings, shown

T = TypeVar("T")
D = TypeVar("D")

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_TRUE: Final = frozenset({"true", "yes", "on"})
_FALSE: Final = frozenset({"false", "no", "off"})
INTEGER_MAX: Final = 2**53


class Item:
    """One value of the file together with its dotted key."""

    __slots__ = ("findings", "key", "node")

    def __init__(self, node: Node, key: str, findings: Findings) -> None:
        self.node = node
        self.key = key
        self.findings = findings

    @property
    def line(self) -> int:
        """Where it stands, counted from 1."""
        return self.node.line

    @property
    def is_table(self) -> bool:
        """Whether it holds keys."""
        return isinstance(self.node.value, dict)

    @property
    def is_list(self) -> bool:
        """Whether it holds elements."""
        return isinstance(self.node.value, tuple)

    @property
    def is_false(self) -> bool:
        """Whether it is the TOML value `false`, which switches a default off."""
        return self.node.value is False

    def refuse(self, message: str, allowed: str = "") -> None:
        """Record that this value is wrong."""
        self.findings.refuse(self.line, self.key, message, allowed)

    def ignore(self, message: str) -> None:
        """Record that this value has no effect."""
        self.findings.ignore(self.line, self.key, message)

    def _mistyped(self, wanted: str) -> None:
        value = self.node.value
        what = kind_of(value) if isinstance(value, (dict, tuple)) or value is None else shown(value)
        self.refuse(f"{what} is not {wanted}", wanted)

    def text(self) -> str | None:
        """A string; in a loose file any scalar as it was written."""
        value = self.node.value
        if not isinstance(value, str):
            self._mistyped("a string")
            return None
        if "\0" in value:
            self.refuse("a string with a NUL character cannot be passed on", "text without NUL")
            return None
        return value

    def filled_text(self) -> str | None:
        """A string that is not empty."""
        value = self.text()
        if value == "":
            self.refuse("the string is empty", "a string with at least one character")
            return None
        return value

    def integer(self) -> int | None:
        """A whole number of at most 2**53."""
        value = self.node.value
        if self.node.is_loose and isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self._mistyped("a whole number")
            return None
        if abs(value) > INTEGER_MAX:
            self.refuse("the number is too large", "a number up to 2**53")
            return None
        return value

    def boolean(self) -> bool | None:
        """True or false; a loose file may also say yes, no, on and off."""
        value = self.node.value
        if self.node.is_loose and isinstance(value, str):
            word = value.strip().lower()
            value = True if word in _TRUE else False if word in _FALSE else value
        if not isinstance(value, bool):
            self._mistyped("true or false")
            return None
        return value

    def _amount(self, parse: Callable[[str | float], T], wanted: str) -> T | None:
        value = self.node.value
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number and not isinstance(value, str):
            self._mistyped(wanted)
            return None
        assert isinstance(value, (str, int, float))
        try:
            return parse(value)
        except (ValueError, OverflowError) as problem:
            self.refuse(str(problem), wanted)
            return None

    def duration(self) -> float | None:
        """Seconds, from `1m30s` or a bare number of seconds."""

        def parse(value: str | float) -> float:
            number = float(value) if isinstance(value, str) and _INTEGER.fullmatch(value.strip()) else value
            return parse_duration_s(number)

        return self._amount(parse, "a duration such as 500ms, 10s, 1m30s")

    def size(self) -> Bytes | None:
        """Bytes, from `512Mi` or a bare number. A loose file counts as Docker does: `512m` is 512 Mi."""

        def parse(value: str | float) -> Bytes:
            if isinstance(value, str):
                return parse_bytes(_binary(value) if self.node.is_loose else value)
            if value != int(value):
                raise ValueError(f"{value!r} is a fraction of a byte; write a whole number of bytes")
            return parse_bytes(int(value))

        return self._amount(parse, "an amount such as 512Mi, 1.5Gi, 64M")

    def cpu(self) -> MilliCpu | None:
        """Thousandths of a core, from `250m`, `0.5` or `2`."""
        return self._amount(parse_cpu, "an amount such as 0.5, 2, 250m")

    def choice(self, values: Mapping[str, T]) -> T | None:
        """One of `values` by its name."""
        allowed = ", ".join(values)
        value = self.node.value
        if not isinstance(value, str):
            self._mistyped(f"one of {allowed}")
            return None
        if value not in values:
            self.refuse(f"{shown(value)} is not known here{suggestion(value, values)}", allowed)
            return None
        return values[value]

    def items(self) -> list["Item"]:
        """The elements of a list."""
        value = self.node.value
        if not isinstance(value, tuple):
            self._mistyped("a list")
            return []
        return [Item(node, f"{self.key}[{n}]", self.findings) for n, node in enumerate(value)]

    def items_or_one(self) -> list["Item"]:
        """The elements of a list, or the value itself as the only one."""
        return self.items() if self.is_list else [self]

    def entries(self) -> list[tuple[str, "Item"]]:
        """The keys and values of a table, in the order of the file."""
        value = self.node.value
        if not isinstance(value, dict):
            self._mistyped("a table")
            return []
        return [(key, Item(node, _joined(self.key, key), self.findings)) for key, node in value.items()]

    def strings(self) -> tuple[str, ...]:
        """A list of strings; elements that are none are recorded and left out."""
        found = (item.text() for item in self.items())
        return tuple(text for text in found if text is not None)

    def strings_or_one(self) -> tuple[str, ...]:
        """A list of strings, or one string."""
        found = (item.text() for item in self.items_or_one())
        return tuple(text for text in found if text is not None)

    def string_map(self) -> dict[str, str]:
        """A table of strings; numbers and booleans are refused in a strict file."""
        found = {key: item.text() for key, item in self.entries()}
        return {key: text for key, text in found.items() if text is not None}


class Section:
    """A table with a known set of keys; unknown ones are recorded when it is made.

    `refused` names keys that the format has and Orca has not, with what to do
    instead, `ignored` keys that do no harm, with why. A null value (YAML) counts as absent.
    """

    def __init__(
        self,
        item: Item,
        known: Iterable[str],
        *,
        refused: Mapping[str, str] | None = None,
        ignored: Mapping[str, str] | None = None,
        allows_extensions: bool = False,
    ) -> None:
        self.item = item
        self.known = tuple(known)
        self._entries: dict[str, Item] = {}
        for key, entry in item.entries():
            if key in self.known:
                if entry.node.value is not None:
                    self._entries[key] = entry
            elif allows_extensions and key.startswith("x-"):
                continue
            elif refused is not None and key in refused:
                hint = refused[key]
                entry.refuse(f"{shown(key)} is not supported" + (f"; {hint}" if hint else ""), ", ".join(self.known))
            elif ignored is not None and key in ignored:
                entry.ignore(ignored[key])
            else:
                entry.refuse(f"unknown key {shown(key)}{suggestion(key, self.known)}", ", ".join(self.known))

    def get(self, key: str) -> Item | None:
        """The value under `key`, or None."""
        assert key in self.known, f"{key} is read but not declared"
        return self._entries.get(key)

    def has(self, *keys: str) -> bool:
        """Whether any of `keys` is given."""
        return any(self.get(key) is not None for key in keys)

    def read(self, key: str, parse: Callable[[Item], T | None], default: D) -> T | D:
        """What `parse` makes of the value under `key`; `default` when absent or wrong."""
        entry = self.get(key)
        found = None if entry is None else parse(entry)
        return default if found is None else found

    def exclusive(self, *keys: str) -> Item | None:
        """The value of the only one of `keys` that is given; two at once are recorded."""
        given = [entry for key in keys if (entry := self.get(key)) is not None]
        if len(given) > 1:
            given[1].refuse(f"only one of {', '.join(keys)} may be given", f"one of {', '.join(keys)}")
        return given[0] if given else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known word is near."""
    import difflib

    near = difflib.get_close_matches(word[:64].lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _joined(parent: str, key: str) -> str:
    name = key if re.fullmatch(r"[\w\-./]{1,64}", key) and "." not in key else shown(key)
    return f"{parent}.{name}" if parent else name


def _binary(text: str) -> str:
    """`text` with Docker's letters (powers of 1024) written as the binary units they are."""
    match = re.fullmatch(r"\s*([0-9.]+) ?([kmgt])(?:i?b)?\s*", text, re.IGNORECASE)
    return text if match is None else f"{match[1]}{match[2]}i"
