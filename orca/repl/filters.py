"""What stands behind a `|`: lines in, lines out. Pure."""

import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from orca.errors import InvalidRequestError

Lines = Iterable[str]
HELP: Final = {
    "grep": "grep [-i] [-v] PATTERN: lines that match a regular expression, or with -v do not",
    "head": "head [N]: the first 10 lines, or N",
    "tail": "tail [N]: the last 10 lines, or N",
    "count": "count: how many lines there are",
    "sort": "sort [-r]: in order, or backwards",
    "json": "json [PATH]: a part of a JSON document, as in services[].name",
}
_LINES: Final = 10


def make_filter(words: Sequence[str]) -> Callable[[Lines], Iterator[str]]:
    """The filter that `words` ask for. Raises InvalidRequestError for one that is not known, or wrongly used."""
    name, *given = words
    makers: dict[str, Callable[[list[str]], Callable[[Lines], Iterator[str]]]] = {
        "grep": _grep,
        "head": _head,
        "tail": _tail,
        "count": _count,
        "sort": _sort,
        "json": _json,
    }
    if name not in makers:
        raise InvalidRequestError(f"no filter is called {name!r}", hint=f"there are {', '.join(makers)}")
    return makers[name](given)


def _grep(given: list[str]) -> Callable[[Lines], Iterator[str]]:
    flags = {word for word in given if word in {"-i", "-v", "-iv", "-vi"}}
    patterns = [word for word in given if word not in flags]
    if len(patterns) != 1:
        raise _usage("grep")
    letters = "".join(flags)
    try:
        pattern = re.compile(patterns[0], re.IGNORECASE if "i" in letters else 0)
    except re.error as error:
        raise InvalidRequestError(f"{patterns[0]!r} is no regular expression: {error}") from error
    wants_match = "v" not in letters
    return lambda lines: (line for line in lines if (pattern.search(line) is not None) is wants_match)


def _head(given: list[str]) -> Callable[[Lines], Iterator[str]]:
    count = _number("head", given)
    return lambda lines: itertools.islice(lines, count)


def _tail(given: list[str]) -> Callable[[Lines], Iterator[str]]:
    count = _number("tail", given)
    return lambda lines: iter(deque(lines, maxlen=count))


def _number(name: str, given: list[str]) -> int:
    words = [word for word in given if word != "-n"]
    if not words:
        return _LINES
    if len(words) > 1 or not words[0].lstrip("-").isdecimal():
        raise _usage(name)
    return int(words[0].lstrip("-"))


def _count(given: list[str]) -> Callable[[Lines], Iterator[str]]:
    if given:
        raise _usage("count")
    return lambda lines: iter([str(sum(1 for _ in lines))])


def _sort(given: list[str]) -> Callable[[Lines], Iterator[str]]:
    if given not in ([], ["-r"]):
        raise _usage("sort")
    return lambda lines: iter(sorted(lines, reverse=bool(given)))


def _json(given: list[str]) -> Callable[[Lines], Iterator[str]]:
    if len(given) > 1:
        raise _usage("json")
    path = given[0].lstrip(".") if given else ""

    def pick(lines: Lines) -> Iterator[str]:
        text = "\n".join(lines)
        try:
            document = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            hint = "put --json behind the command"
            raise InvalidRequestError(f"this is no JSON document: {error}", hint=hint) from error
        found = _walk(document, path)
        for one in found:
            if isinstance(one, str):
                yield one
            else:
                yield from msgspec.json.format(msgspec.json.encode(one), indent=2).decode().splitlines()

    return pick


def _walk(document: Any, path: str) -> list[Any]:
    """The parts at `path`; a key that is not there gives nothing, as `[]` of what is no list."""
    found = [document]
    for step in re.findall(r"[^.\[\]]+|\[\d*\]", path):
        if step == "[]":
            found = [inner for one in found if isinstance(one, list) for inner in one]
        elif step.startswith("["):
            at = int(step[1:-1])
            found = [one[at] for one in found if isinstance(one, list) and at < len(one)]
        else:
            found = [one[step] for one in found if isinstance(one, dict) and step in one]
    return found


def _usage(name: str) -> InvalidRequestError:
    return InvalidRequestError(f"{name} is not used like this", hint=HELP[name])
