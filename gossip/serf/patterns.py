r"""Regular expressions of strangers, matched in linear time.

The expression of a tag filter comes from whoever sends a query. A backtracking matcher
such as `re` can be made to run for years by thirty characters, so it never sees one.
Serf uses RE2, and so does this module in miniature: the expression is translated into an
automaton, and a text is matched by following all of its states at once (Thompson 1968,
*Regular Expression Search Algorithm*). The work is at most states x characters; both are
bounded, and what needs more counts as not matching.

Understood: literals, `.`, classes with ranges and negation, `\d \D \w \W \s \S`, the
escapes `\t \n \r \f \v \a` and those of punctuation, groups `(...)` and `(?:...)`, `|`,
`* + ? {n} {n,} {n,m}` (also lazy, which changes nothing about whether it matches) and
`^ $ \A \z`. Not understood, and therefore never matching: named groups, flags, `\b`,
Unicode classes, hexadecimal escapes, back-references and look-around (the last two RE2
does not have either). A match may begin anywhere, as in Go's `MatchString`.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

EXPRESSION_LENGTH_MAX: Final = 256
STATES_MAX: Final = 512
REPEATS_MAX: Final = 256
NESTING_MAX: Final = 16
WORK_MAX: Final = 40_000
"""States looked at for one match; some milliseconds."""

_Test = Callable[[str], bool]
_CLASSES: Final[dict[str, _Test]] = {
    "d": lambda char: "0" <= char <= "9",
    "D": lambda char: not "0" <= char <= "9",
    "w": lambda char: char == "_" or (char.isascii() and char.isalnum()),
    "W": lambda char: not (char == "_" or (char.isascii() and char.isalnum())),
    "s": lambda char: char in "\t\n\f\r ",
    "S": lambda char: char not in "\t\n\f\r ",
}
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}


class PatternError(ValueError):
    """The expression is none that this module understands."""


class _Start(NamedTuple):
    """Passes only before the first character."""

    next: int


class _End(NamedTuple):
    """Passes only after the last character."""

    next: int


class _Take(NamedTuple):
    """Passes one character that the test accepts."""

    test: _Test
    next: int


class _Split(NamedTuple):
    """Goes on in both places."""

    one: int
    other: int


class _Accept(NamedTuple):
    """The text matches."""


_State = _Start | _End | _Take | _Split | _Accept
# A part of an expression: given the state to go on in, adds its own states and names the first.
_Part = Callable[[list[_State], int], int]


class Pattern:
    """A compiled expression; made by `compile_pattern`."""

    def __init__(self, states: list[_State], first: int) -> None:
        self._states = states
        self._first = first

    def matches(self, text: str) -> bool:
        """Whether it matches somewhere in `text`; False also when that would take too much work."""
        work = 0
        active: dict[int, None] = {}
        for place in range(len(text) + 1):
            active, is_accepted = self._closure([*active, self._first], place, len(text))
            if is_accepted:
                return True
            work += len(active) + 1
            if work > WORK_MAX:
                return False
            if place < len(text):
                active = self._step(active, text[place])
        return False

    def _step(self, active: dict[int, None], char: str) -> dict[int, None]:
        following: dict[int, None] = {}
        for number in active:
            state = self._states[number]
            if isinstance(state, _Take) and state.test(char):
                following[state.next] = None
        return following

    def _closure(self, seeds: list[int], place: int, end: int) -> tuple[dict[int, None], bool]:
        """All states reachable without taking a character, and whether one of them accepts."""
        seen: dict[int, None] = {}
        pending = seeds
        while pending:
            number = pending.pop()
            if number in seen:
                continue
            seen[number] = None
            match self._states[number]:
                case _Accept():
                    return seen, True
                case _Split(one=one, other=other):
                    pending += (one, other)
                case _Start(next=following) if place == 0:
                    pending.append(following)
                case _End(next=following) if place == end:
                    pending.append(following)
                case _:
                    pass
        return seen, False


def compile_pattern(expression: str) -> Pattern:
    """The matcher of `expression`; PatternError when it is too long, too large or not understood."""
    if len(expression) > EXPRESSION_LENGTH_MAX:
        raise PatternError(f"{len(expression)} characters, at most {EXPRESSION_LENGTH_MAX} are read")
    part = _Parser(expression).whole()
    states: list[_State] = [_Accept()]
    first = part(states, 0)
    return Pattern(states, first)


def _add(states: list[_State], state: _State) -> int:
    if len(states) >= STATES_MAX:
        raise PatternError(f"more than {STATES_MAX} states")
    states.append(state)
    return len(states) - 1


def _take(test: _Test) -> _Part:
    return lambda states, following: _add(states, _Take(test, following))


def _sequence(parts: list[_Part]) -> _Part:
    def build(states: list[_State], following: int) -> int:
        for part in reversed(parts):
            following = part(states, following)
        return following

    return build


def _either(one: _Part, other: _Part) -> _Part:
    return lambda states, following: _add(states, _Split(one(states, following), other(states, following)))


def _repeat(part: _Part, least: int, most: int | None) -> _Part:
    def build(states: list[_State], following: int) -> int:
        if most is None:
            loop = _add(states, _Split(following, following))
            states[loop] = _Split(part(states, loop), following)
            following = loop
        else:
            after = following
            for _ in range(most - least):
                following = _add(states, _Split(part(states, following), after))
        for _ in range(least):
            first = part(states, following)
            if first == following:  # an empty part: more of it is still empty, and nested it would take for ever
                break
            following = first
        return following

    return build


class _Parser:
    """Recursive descent over one expression."""

    def __init__(self, expression: str) -> None:
        self._text = expression
        self._place = 0
        self._depth = 0

    def whole(self) -> _Part:
        part = self._alternatives()
        if self._place < len(self._text):
            raise PatternError(f"a ) without a ( at character {self._place + 1}")
        return part

    def _peek(self) -> str:
        return self._text[self._place] if self._place < len(self._text) else ""

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise PatternError("the expression ends too early")
        self._place += 1
        return char

    def _alternatives(self) -> _Part:
        part = self._run()
        while self._peek() == "|":
            self._place += 1
            part = _either(part, self._run())
        return part

    def _run(self) -> _Part:
        parts: list[_Part] = []
        while self._peek() not in {"", "|", ")"}:
            parts.append(self._repeated(self._atom()))
        return _sequence(parts)

    def _atom(self) -> _Part:
        char = self._next()
        match char:
            case "(":
                return self._group()
            case "[":
                return _take(self._char_class())
            case ".":
                return _take(lambda char: char != "\n")
            case "^":
                return lambda states, following: _add(states, _Start(following))
            case "$":
                return lambda states, following: _add(states, _End(following))
            case "\\":
                return self._escape()
            case "*" | "+" | "?":
                raise PatternError(f"{char} repeats nothing at character {self._place}")
            case _:
                return _take(lambda other: other == char)

    def _group(self) -> _Part:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise PatternError(f"groups nested deeper than {NESTING_MAX}")
        if self._peek() == "?":
            self._place += 1
            if self._next() != ":":
                raise PatternError(f"a group of a kind that is not read at character {self._place}")
        part = self._alternatives()
        if self._next() != ")":
            raise PatternError("a ( without a )")
        self._depth -= 1
        return part

    def _escape(self) -> _Part:
        char = self._next()
        if char == "A":
            return lambda states, following: _add(states, _Start(following))
        if char == "z":
            return lambda states, following: _add(states, _End(following))
        if char in _CLASSES:
            return _take(_CLASSES[char])
        plain = self._plain_escape(char)
        return _take(lambda other: other == plain)

    def _plain_escape(self, char: str) -> str:
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char.isascii() and not char.isalnum():
            return char
        raise PatternError(f"the escape \\{char} is not read")

    def _char_class(self) -> _Test:
        is_negated = self._peek() == "^"
        self._place += is_negated
        tests: list[_Test] = []
        while self._peek() != "]" or not tests:
            tests.append(self._class_item())
        self._place += 1
        return lambda char: any(test(char) for test in tests) != is_negated

    def _class_item(self) -> _Test:
        char = self._next()
        if char == "[" and self._peek() == ":":
            raise PatternError("classes like [:alpha:] are not read")
        if char == "\\":
            char = self._next()
            if char in _CLASSES:
                return _CLASSES[char]
            char = self._plain_escape(char)
        low = high = char
        if self._peek() == "-" and self._text[self._place + 1 : self._place + 2] not in {"", "]"}:
            self._place += 1
            high = self._next()
            if high == "\\":
                high = self._plain_escape(self._next())
            if high < low:
                raise PatternError(f"the range {low}-{high} is empty")
        return lambda other: low <= other <= high

    def _repeated(self, part: _Part) -> _Part:
        repeats = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        char = self._peek()
        if char in repeats:
            self._place += 1
            least, most = repeats[char]
        else:
            counts = self._counts() if char == "{" else None
            if counts is None:
                return part
            least, most = counts
        if self._peek() == "?":  # lazy: the same texts match
            self._place += 1
        if self._peek() in {"*", "+", "?"}:
            raise PatternError(f"a repetition of a repetition at character {self._place + 1}")
        return _repeat(part, least, most)

    def _counts(self) -> tuple[int, int | None] | None:
        """The numbers of `{n}`, `{n,}` or `{n,m}`; None when the brace is a plain character."""
        end = self._text.find("}", self._place)
        low, comma, high = self._text[self._place + 1 : max(end, self._place + 1)].partition(",")
        is_number = low.isascii() and low.isdigit()
        if end < 0 or not is_number or (high and not (high.isascii() and high.isdigit())):
            return None
        self._place = end + 1
        least = int(low)
        most = least if not comma else int(high) if high else None
        if max(least, most or 0) > REPEATS_MAX or (most is not None and most < least):
            raise PatternError(f"{{{low}{comma}{high}}} repeats more than {REPEATS_MAX} times or less than it should")
        return least, most
