"""Which files of a build context `.dockerignore` leaves out. Pure.

One pattern a line, relative to the context, `/` between parts. `*` and `?` stay
within a part, `**` spans any number of parts, `[a-z]` is one character of a class,
`!` brings back what an earlier line left out, and the last line that fits decides.
A pattern that fits a directory fits everything below it.
"""

import re


class IgnoreRules:
    """The lines of one `.dockerignore`. Raises ValueError for a pattern that cannot be read."""

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        for line in text.removeprefix("\ufeff").splitlines():
            pattern = line.strip()
            if not pattern or pattern.startswith("#"):
                continue
            brings_back = pattern.startswith("!")
            parts = [part for part in pattern.removeprefix("!").strip().split("/") if part not in ("", ".")]
            if parts:
                self._rules.append((re.compile(_expression(parts)), brings_back))

    @property
    def can_bring_back(self) -> bool:
        """Whether something below an ignored directory may be wanted again."""
        return any(brings_back for _, brings_back in self._rules)

    def leaves_out(self, path: str) -> bool:
        """Whether `path`, relative and with `/` between parts, stays out of the context."""
        is_out = False
        for expression, brings_back in self._rules:
            if is_out is brings_back and expression.fullmatch(path):
                is_out = not brings_back
        return is_out


def _expression(parts: list[str]) -> str:
    """The regular expression of a pattern's parts, with everything below a match."""
    text = ""
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if part == "**":
            text += ".+" if is_last else "(?:[^/]+/)*"
        else:
            text += _part_expression(part) + ("" if is_last else "/")
    return text + "(?:/.*)?"


def _part_expression(part: str) -> str:
    text, index = "", 0
    while index < len(part):
        character = part[index]
        index += 1
        if character == "*":
            text += "[^/]*"
        elif character == "?":
            text += "[^/]"
        elif character == "\\" and index < len(part):
            text += re.escape(part[index])
            index += 1
        elif character == "[":
            end = part.find("]", index + 1)
            if end < 0:
                raise ValueError(f"{part!r}: a class that starts with [ must end with ]")
            inside = part[index:end].replace("\\", "\\\\")
            text += "[^" + inside[1:] + "]" if inside.startswith("^") else "[" + inside + "]"
            index = end + 1
        else:
            text += re.escape(character)
    return text
