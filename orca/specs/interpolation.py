"""`${VARIABLE}` in Compose files, by the rules of the Compose specification.

`$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}`,
`${NAME?message}`, `${NAME:+other}`, `${NAME+other}`; `$$` is a dollar sign. Defaults may
hold further variables; values of variables are never read again, so nothing can grow
without end. `${secrets.NAME}` is left as it is: the node that starts a copy fills it in.
"""

import re
from collections.abc import Mapping
from typing import Final

DEPTH_MAX: Final = 8
OUTPUT_CHARACTERS_MAX: Final = 4 * 2**20
"""Over all values of one file: a long variable named often must not fill the memory."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR: Final = re.compile(r":?[-?+]")
_SECRET: Final = re.compile(r"\$\{secrets\.[^}]*\}")
_HOW: Final = "write ${NAME}, ${NAME:-default} or $$ for a dollar sign"


class InterpolationError(ValueError):
    """A variable that cannot be filled in; the message says why."""


class Interpolator:
    """Fills variables from `environment` and remembers which had no value."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._budget = OUTPUT_CHARACTERS_MAX
        self.unset: list[str] = []

    def fill(self, text: str) -> str:
        """`text` with its variables replaced; raises InterpolationError."""
        if "$" not in text:
            return text
        filled, end = self._scan(text, 0, 0)
        assert end == len(text), "the outermost scan reads to the end"
        self._budget -= len(filled)
        if self._budget < 0:
            raise InterpolationError(f"variables fill more than {OUTPUT_CHARACTERS_MAX} characters")
        return filled

    def _scan(self, text: str, at: int, depth: int) -> tuple[str, int]:
        """Fill from `at` on: to the end, or inside braces to the brace that closes them."""
        pieces: list[str] = []
        length = 0
        while at < len(text):
            if depth and text[at] == "}":
                return "".join(pieces), at
            if text[at] != "$":
                end = at + 1
                while end < len(text) and text[end] != "$" and not (depth and text[end] == "}"):
                    end += 1
                piece, at = text[at:end], end
            else:
                piece, at = self._variable(text, at, depth)
            pieces.append(piece)
            length += len(piece)
            if length > OUTPUT_CHARACTERS_MAX:
                raise InterpolationError(f"variables fill more than {OUTPUT_CHARACTERS_MAX} characters")
        if depth:
            raise InterpolationError(f"a variable's closing brace is missing; {_HOW}")
        return "".join(pieces), at

    def _variable(self, text: str, at: int, depth: int) -> tuple[str, int]:
        if text.startswith("$$", at):
            return "$", at + 2
        if secret := _SECRET.match(text, at):
            return secret[0], secret.end()
        if plain := _NAME.match(text, at + 1):
            return self._value(plain[0]), plain.end()
        name = _NAME.match(text, at + 2) if text.startswith("${", at) else None
        if name is None:
            raise InterpolationError(f"{text[at : at + 12]!r} is no variable; {_HOW}")
        if text.startswith("}", name.end()):
            return self._value(name[0]), name.end() + 1
        operator = _OPERATOR.match(text, name.end())
        if operator is None or depth >= DEPTH_MAX:
            raise InterpolationError(f"{text[at : at + 24]!r} is no variable; {_HOW}")
        unset_before = len(self.unset)
        word, end = self._scan(text, operator.end(), depth + 1)
        chosen, uses_word = self._choose(name[0], operator[0], word)
        if not uses_word:
            del self.unset[unset_before:]
        return chosen, end + 1

    def _choose(self, name: str, operator: str, word: str) -> tuple[str, bool]:
        value = self._environment.get(name)
        is_given = bool(value) if operator.startswith(":") else value is not None
        if operator.endswith("+"):
            return (word, True) if is_given else ("", False)
        if is_given:
            return value or "", False
        if operator.endswith("?"):
            raise InterpolationError(f"variable {name} is not set" + (f": {word[:200]}" if word else ""))
        return word, True

    def _value(self, name: str) -> str:
        value = self._environment.get(name)
        if value is None:
            self.unset.append(name)
            return ""
        return value
