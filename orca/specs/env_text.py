r"""`.env` files: `NAME=value` lines with comments, quotes and variables.

Unquoted values end at ` #` and at the line's end; single quotes keep everything as
it is; double quotes may span lines and know `\n`, `\t`, `\"`, `\\` and `\$`. Variables in
unquoted and double-quoted values are filled from the lines above and the environment.
"""

import re
from collections.abc import Mapping
from typing import Final

from orca.specs.interpolation import InterpolationError, Interpolator

_BLANK: Final = re.compile(r"[ \t\r]*(?:#[^\n]*)?(?:\n|\Z)")
_NAME: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.\-]*)[ \t]*")
_SINGLE: Final = re.compile(r"'([^']*)'")
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\[\s\S])*+)"')
_ESCAPE: Final = re.compile(r"\\([\s\S])")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}
_REST: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?=\r?\n|\Z)")


class EnvTextError(ValueError):
    """A line that is no assignment; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def parse_env(text: str, environment: Mapping[str, str]) -> dict[str, str | None]:
    """The variables of `text` in order; None for a bare name, which stands for its own value.

    Raises EnvTextError.
    """
    found: dict[str, str | None] = {}
    known = dict(environment)
    interpolator = Interpolator(known)
    at, line, counted = 0, 1, 0
    while at < len(text):
        blank = _BLANK.match(text, at)
        if blank is not None:
            at = blank.end()
            continue
        line, counted = line + text.count("\n", counted, at), at
        name = _NAME.match(text, at)
        if name is None:
            raise EnvTextError(line, "expected NAME=value")
        at = name.end()
        if not text.startswith(("=", ":"), at):
            if _REST.match(text, at) is None:
                raise EnvTextError(line, f"expected = after {name[1]}")
            found[name[1]] = None
            at = _line_end(text, at)
            continue
        raw, at = _value(text, at + 1, line)
        try:
            value = raw[1:] if raw.startswith("'") else interpolator.fill(raw)
        except InterpolationError as problem:
            raise EnvTextError(line, str(problem)) from problem
        found[name[1]] = value
        known.setdefault(name[1], value)
    return found


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _value(text: str, at: int, line: int) -> tuple[str, int]:
    """The raw value, after a `'` when it is literal, and where the next line starts."""
    while text.startswith((" ", "\t"), at):
        at += 1
    if text.startswith(("'", '"'), at):
        is_single = text[at] == "'"
        quoted = (_SINGLE if is_single else _DOUBLE).match(text, at)
        if quoted is None:
            raise EnvTextError(line, "a closing quote is missing")
        if _REST.match(text, quoted.end()) is None:
            raise EnvTextError(line, "text follows the closing quote")
        inner = "'" + quoted[1] if is_single else _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[0]), quoted[1])
        return inner, _line_end(text, quoted.end())
    end = _line_end(text, at)
    value = re.split(r"(?:^|[ \t])#", text[at:end].rstrip("\r\n"), maxsplit=1)[0]
    return value.strip(), end
