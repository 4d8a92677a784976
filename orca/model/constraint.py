"""Expressions about nodes, as they stand in `placement.constraints` and `placement.prefer`.

    disk == ssd          the label disk has this value; != holds also where there is no such label
    zone in (a, b)       one of several; `not in` as !=
    name ~ web-*         * stands for any text, ? for one character; !~ is its opposite
    cores >= 8           numbers and versions (1.9 < 1.10); never holds where there is nothing to compare
    gpu, !gpu            the label is set, is not set

What stands on the left is a label, or one of the words of `ATTRIBUTES`; `node.labels.disk` is the label disk
too, for a label that has such a name and for files written for Swarm. All of a list must hold.
"""

import enum
import functools
import re
from collections.abc import Mapping
from fnmatch import translate
from typing import Final

import msgspec

from orca.model.node import NodeFacts

EXPRESSION_CHARACTERS_MAX: Final = 500
_LABEL_PREFIXES: Final = ("node.labels.", "labels.")
ATTRIBUTES: Final = ("name", "id", "arch", "version", "cores")
"""What is known of every node without a label: its name and id, amd64 or arm64, Orca's release, its cores."""
_SWARM_NAMES: Final = {"node.hostname": "name", "node.id": "id", "node.platform.arch": "arch", "node.name": "name"}
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_./-]{0,127}"
_VALUE: Final = r"(?:\"[^\"]*\"|'[^']*'|[^\s,()\"']+)"
_COMPARED: Final = re.compile(rf"({_NAME})\s*(==|!=|=~|!~|~|<=|>=|<|>)\s*({_VALUE})")
_LISTED: Final = re.compile(rf"({_NAME})\s+(in|not\s+in)\s*\(\s*({_VALUE}(?:\s*,\s*{_VALUE})*)\s*\)")
_BARE: Final = re.compile(rf"(!?)\s*({_NAME})")
_NUMBERS: Final = re.compile(r"v?[0-9]+(?:\.[0-9]+)*")
ALLOWED: Final = "such as: disk == ssd, zone != a, zone in (a, b), name ~ web-*, cores >= 8, gpu, !gpu"


class Operator(enum.Enum):
    """How the attribute is compared with the values."""

    IN = "in"
    NOT_IN = "not in"
    LIKE = "~"
    UNLIKE = "!~"
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    SET = "set"
    UNSET = "not set"


_SYMBOLS: Final = {"==": Operator.IN, "!=": Operator.NOT_IN, "=~": Operator.LIKE} | {one.value: one for one in Operator}
_ORDERS: Final = frozenset({Operator.LESS, Operator.AT_MOST, Operator.MORE, Operator.AT_LEAST})
_HOLDS_WITHOUT: Final = frozenset({Operator.NOT_IN, Operator.UNLIKE, Operator.UNSET})


class Constraint(msgspec.Struct, frozen=True, gc=False):
    """One expression, taken apart. `attribute` is one of `ATTRIBUTES`, or `labels.` and the name of a label."""

    attribute: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds_for(self, value: str | None) -> bool:
        """Whether it holds where the attribute has `value`; None: there is none."""
        if value is None:
            return self.operator in _HOLDS_WITHOUT
        match self.operator:
            case Operator.SET | Operator.UNSET:
                return self.operator is Operator.SET
            case Operator.IN | Operator.NOT_IN:
                return (value in self.values) is (self.operator is Operator.IN)
            case Operator.LIKE | Operator.UNLIKE:
                found = any(_pattern(one).match(value) for one in self.values)
                return found is (self.operator is Operator.LIKE)
            case _:
                return self._compares(value)

    def _compares(self, value: str) -> bool:
        left, right = _numbers(value), _numbers(self.values[0])
        if left is None or right is None:
            return False
        match self.operator:
            case Operator.LESS:
                return left < right
            case Operator.AT_MOST:
                return left <= right
            case Operator.MORE:
                return left > right
            case _:
                return left >= right


@functools.lru_cache(maxsize=4096)
def parse_constraint(text: str) -> Constraint:
    """The expression in `text`; raises ValueError that says what is wrong with it."""
    if len(text) > EXPRESSION_CHARACTERS_MAX:
        raise ValueError(f"it has {len(text)} characters; at most {EXPRESSION_CHARACTERS_MAX} are read")
    plain = text.strip()
    if found := _COMPARED.fullmatch(plain):
        attribute, operator = _attribute(found[1]), _SYMBOLS[found[2]]
        values: tuple[str, ...] = (_plain(found[3]),)
        if operator in _ORDERS and _numbers(values[0]) is None:
            raise ValueError(f"{values[0]!r} is no number and no version, and {found[2]} compares those")
    elif found := _LISTED.fullmatch(plain):
        attribute, operator = _attribute(found[1]), Operator(" ".join(found[2].split()))
        values = tuple(_plain(one) for one in re.findall(_VALUE, found[3]))
    elif found := _BARE.fullmatch(plain):
        return Constraint(_attribute(found[2]), Operator.UNSET if found[1] else Operator.SET)
    else:
        raise ValueError("it is no expression about a node")
    if attribute == "arch":
        values = tuple(_ARCHITECTURES.get(one, one) for one in values)
    return Constraint(attribute, operator, values)


def attribute_of(node: NodeFacts, labels: Mapping[str, str], attribute: str) -> str | None:
    """What `attribute` is on `node`, whose labels are `labels`."""
    if attribute.startswith("labels."):
        return labels.get(attribute.removeprefix("labels."))
    match attribute:
        case "name":
            return node.name
        case "id":
            return str(node.id)
        case "arch":
            return _ARCHITECTURES.get(node.architecture, node.architecture)
        case "version":
            return node.version
        case _:
            return f"{node.cpu_milli / 1000:g}"


def shown_attribute(attribute: str) -> str:
    """How people call it."""
    return f"label {attribute.removeprefix('labels.')}" if attribute.startswith("labels.") else attribute


def _attribute(name: str) -> str:
    for prefix in _LABEL_PREFIXES:
        if name.startswith(prefix):
            return f"labels.{name.removeprefix(prefix)}"
    if name in _SWARM_NAMES:
        return _SWARM_NAMES[name]
    if name in ATTRIBUTES:
        return name
    if name.startswith("node."):
        raise ValueError(f"nothing is known as {name}; there are: {', '.join(_SWARM_NAMES)}, node.labels.NAME")
    return f"labels.{name}"


def _plain(value: str) -> str:
    return value[1:-1] if value[0] in "\"'" else value


@functools.lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    # Only * and ? are special, so that no pattern takes long: brackets stand for themselves.
    return re.compile(translate(re.sub(r"\*+", "*", text).replace("[", "[[]")))


def _numbers(text: str) -> tuple[int, ...] | None:
    if not _NUMBERS.fullmatch(text):
        return None
    numbers = [int(one) for one in text.removeprefix("v").split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
