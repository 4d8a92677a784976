"""On which line each key of a TOML document stands.

`tomllib` reads values but says nothing of places, so this scanner walks the same text
and notes the line of every table, key and element. It accepts everything that TOML
1.0 accepts and does not judge the rest: text that it cannot follow ends the scan, and
`tomllib`, asked next, says what is wrong. It bounds the nesting and the length of
dotted keys first, because `tomllib` takes quadratic time over a key of 100,000 parts.
"""

import bisect
import contextlib
import re
from typing import Final, NoReturn, TypeAlias

import msgspec

from orca.specs.document import DEPTH_MAX

Path: TypeAlias = tuple[str | int, ...]

_SPACE: Final = re.compile(r"[ \t]*")
_FILLER: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_\-]+")
_BASIC: Final = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_LITERAL: Final = re.compile(r"'([^'\n]*)'")
_LONG_BASIC: Final = re.compile(r'"""(?:[^"\\]++|\\[\s\S]|"{1,2}+(?!"))*+"{3,5}')
_LONG_LITERAL: Final = re.compile(r"'''(?:[^']++|'{1,2}+(?!'))*+'{3,5}")
_OTHER: Final = re.compile(r"[^,\]}#\r\n\"'\[{]+")
_LINE_END: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)")
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPES: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


class NestedTooDeepError(ValueError):
    """Tables or dotted keys go deeper than any service file does; `line` says where."""

    def __init__(self, line: int) -> None:
        super().__init__(f"tables or lists are nested deeper than {DEPTH_MAX} levels")
        self.line = line


class Duplicate(msgspec.Struct, frozen=True):
    """A key that is given a second time on `line`, first on `first_line`."""

    path: Path
    line: int
    first_line: int


class TomlPlaces(msgspec.Struct, frozen=True):
    """The line of every path, counted from 1, and the keys that are given twice."""

    lines: dict[Path, int]
    duplicates: tuple[Duplicate, ...] = ()


class _LostError(Exception):
    """The text is no TOML from here on."""


def find_places(text: str) -> TomlPlaces:
    """Where the keys of `text` stand, as far as it can be followed.

    Raises NestedTooDeepError. Linear in the length of `text`.
    """
    scanner = _Scanner(text)
    with contextlib.suppress(_LostError):  # tomllib reports it
        scanner.scan()
    return TomlPlaces(lines=scanner.lines, duplicates=tuple(scanner.duplicates))


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.duplicates: list[Duplicate] = []
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._table: Path = ()
        self._counts: dict[Path, int] = {}
        self._headers: dict[Path, int] = {}

    def scan(self) -> None:
        while True:
            self._skip(_FILLER)
            if self.at >= len(self.text):
                return
            if self.text[self.at] == "[":
                self._scan_header()
            else:
                self._scan_pair(self._table, 0)
            if self._take(_LINE_END) is None:
                self._lost()

    def _scan_header(self) -> None:
        line = self._line()
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        parts = self._scan_key()
        closing = "]]" if is_array else "]"
        if not self.text.startswith(closing, self.at):
            self._lost()
        self.at += len(closing)
        path = self._resolve(parts[:-1])
        path += (parts[-1],)
        if is_array:
            self.lines.setdefault(path, line)
            self._counts[path] = self._counts.get(path, 0) + 1
            path += (self._counts[path] - 1,)
        elif path in self._headers:
            self.duplicates.append(Duplicate(path, line, self._headers[path]))
        else:
            self._headers[path] = line
        for length in range(1, len(path)):
            self.lines.setdefault(path[:length], line)
        self.lines.setdefault(path, line)
        self._table = path

    def _resolve(self, parts: tuple[str, ...]) -> Path:
        """`parts` with the number of the newest element after each array of tables."""
        path: Path = ()
        for part in parts:
            path += (part,)
            if path in self._counts:
                path += (self._counts[path] - 1,)
        return path

    def _scan_pair(self, table: Path, depth: int) -> None:
        line = self._line()
        path = table + self._scan_key()
        if len(path) > DEPTH_MAX:
            raise NestedTooDeepError(line)
        if not self.text.startswith("=", self.at):
            self._lost()
        self.at += 1
        self._skip(_SPACE)
        for length in range(len(table) + 1, len(path)):
            self.lines.setdefault(path[:length], line)
        if path in self.lines:
            self.duplicates.append(Duplicate(path, line, self.lines[path]))
        self.lines.setdefault(path, line)
        self._scan_value(path, depth)

    def _scan_key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            parts.append(self._scan_key_part())
            if len(parts) > DEPTH_MAX:
                raise NestedTooDeepError(self._line())
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return tuple(parts)
            self.at += 1

    def _scan_key_part(self) -> str:
        bare = self._take(_BARE_KEY) or self._take(_LITERAL)
        if bare is not None:
            return bare[bare.lastindex or 0]
        quoted = self._take(_BASIC)
        if quoted is None:
            self._lost()
        return _ESCAPE.sub(_unescaped, quoted[1])

    def _scan_value(self, path: Path, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise NestedTooDeepError(self._line())
        first = self.text[self.at : self.at + 1]
        if first == "[":
            self._scan_array(path, depth)
        elif first == "{":
            self._scan_inline_table(path, depth)
        else:
            patterns = {'"': (_LONG_BASIC, _BASIC), "'": (_LONG_LITERAL, _LITERAL)}.get(first, (_OTHER,))
            if not any(self._take(pattern) for pattern in patterns):
                self._lost()

    def _scan_array(self, path: Path, depth: int) -> None:
        self.at += 1
        count = 0
        while True:
            self._skip(_FILLER)
            if self._closes("]"):
                return
            element = (*path, count)
            self.lines[element] = self._line()
            self._scan_value(element, depth + 1)
            count += 1
            self._skip(_FILLER)
            if self._closes("]"):
                return
            if not self._closes(","):
                self._lost()

    def _scan_inline_table(self, path: Path, depth: int) -> None:
        self.at += 1
        while True:
            self._skip(_FILLER)
            if self._closes("}"):
                return
            self._scan_pair(path, depth + 1)
            self._skip(_FILLER)
            if self._closes("}"):
                return
            if not self._closes(","):
                self._lost()

    def _closes(self, mark: str) -> bool:
        found = self.text.startswith(mark, self.at)
        self.at += len(mark) if found else 0
        return found

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._take(pattern)

    def _line(self) -> int:
        return bisect.bisect_right(self._line_starts, self.at)

    def _lost(self) -> NoReturn:
        raise _LostError


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "uU" and len(code) > 1:
        number = int(code[1:], 16)
        return chr(number) if number < 0x110000 else match[0]
    return _ESCAPES.get(code, match[0])
