"""A line of the shell: `command | filter | filter`. Pure."""

import shlex
from typing import Final

import msgspec

from orca.errors import InvalidRequestError

_PIPE: Final = "|"


class Pipeline(msgspec.Struct, frozen=True):
    """The words of a command, and those of each filter that its output goes through."""

    command: tuple[str, ...]
    filters: tuple[tuple[str, ...], ...] = ()


def is_incomplete(text: str) -> bool:
    """Whether more lines belong to it: a quote is open, or it ends with a backslash or a `|`."""
    if text.rstrip(" ").endswith("\\"):
        return True
    try:
        words = _words(text)
    except ValueError:
        return True
    return bool(words) and words[-1] == _PIPE


def parse(text: str) -> Pipeline | None:
    """What a line asks for; None for an empty one and for a comment (`# …`).

    Raises InvalidRequestError for an open quote and for an empty place beside a `|`.
    """
    try:
        words = _words(text.replace("\\\n", " "))
    except ValueError as error:
        raise InvalidRequestError(f"the line cannot be read: {error}", hint="close the quote") from error
    if not words:
        return None
    stages: list[tuple[str, ...]] = []
    start = 0
    for place in [at for at, word in enumerate(words) if word == _PIPE] + [len(words)]:
        stages.append(tuple(words[start:place]))
        start = place + 1
    if not all(stages):
        raise InvalidRequestError("nothing stands on one side of a `|`", hint="logs web | grep error | tail 5")
    command, *filters = stages
    return Pipeline(command, tuple(filters))


def last_stage(text: str) -> tuple[list[str], str, bool]:
    """What is being typed: the whole words of the last stage, the begun one, and whether it is a filter."""
    before, _, stage = text.rpartition(_PIPE)
    try:
        words = shlex.split(stage)
    except ValueError:
        words = stage.split()
    if not stage or stage[-1].isspace() or not words:
        return words, "", bool(before)
    return words[:-1], words[-1], bool(before)


def _words(text: str) -> list[str]:
    """Words as a POSIX shell reads them, with each `|` outside quotes as one of its own."""
    reader = shlex.shlex(text, posix=True, punctuation_chars=_PIPE)
    reader.whitespace_split = True
    reader.commenters = "#"
    words: list[str] = []
    for word in reader:
        if set(word) == {_PIPE} and len(word) > 1:
            raise ValueError("`||` is not known here")
        words.append(word)
    return words
