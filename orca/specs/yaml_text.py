"""YAML text to a document whose every value knows its line.

Read from the parser's events, not from its objects: no tag builds anything, every
scalar stays the text that was written (so `yes`, `1.10` and `0o17` survive as they are),
and nesting and alias expansion are bounded while reading. A "billion laughs" file is
refused by counting what each anchor would expand to; the values themselves are shared.
"""

from typing import Final

import msgspec
import yaml

from orca.specs.document import DEPTH_MAX, Node
from orca.specs.findings import Findings, shown
from orca.specs.interpolation import InterpolationError, Interpolator

EXPANDED_NODES_MAX: Final = 200_000
"""Values after all aliases are followed; a Compose file of 1 MiB without any has fewer."""

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TAGS: Final = frozenset(
    "tag:yaml.org,2002:" + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge", "timestamp")
)
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Built(msgspec.Struct):
    """A finished value, how many values it stands for, and whether a plain word wrote it."""

    node: Node
    size: int = 1
    word: str | None = None
    is_plain: bool = False


class _Open(msgspec.Struct):
    """A list or table that is being read; `key` waits for its value."""

    line: int
    anchor: str | None
    is_table: bool
    elements: list[_Built] = []
    pairs: list[tuple[str, int, _Built]] = []
    merges: list[_Built] = []
    key: _Built | None = None
    size: int = 1


class _RefusedError(Exception):
    """The text cannot be read any further."""

    def __init__(self, line: int, message: str, allowed: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.message = message
        self.allowed = allowed


def parse_yaml(text: str, findings: Findings, interpolator: Interpolator) -> Node | None:
    """The one document in `text`, variables filled in; None after recording why not."""
    composer = _Composer(findings, interpolator)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            composer.take(event)
    except _RefusedError as refused:
        findings.refuse(refused.line, "", refused.message, refused.allowed)
        return None
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None) or getattr(problem, "context_mark", None)
        what = getattr(problem, "problem", None) or getattr(problem, "reason", None) or "cannot be read"
        position = getattr(problem, "position", 0)
        line = mark.line + 1 if mark is not None else text.count("\n", 0, position) + 1
        findings.refuse(line, "", f"this is no YAML: {what}", "YAML 1.2")
        return None
    except (RecursionError, ValueError) as problem:
        findings.refuse(1, "", f"this is no YAML: {problem}", "YAML 1.2")
        return None
    return composer.root


class _Composer:
    def __init__(self, findings: Findings, interpolator: Interpolator) -> None:
        self.root: Node | None = None
        self._findings = findings
        self._interpolator = interpolator
        self._open: list[_Open] = []
        self._anchors: dict[str, _Built | None] = {}
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """Read one event of the parser."""
        line = 1 if event.start_mark is None else event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _RefusedError(line, "a second YAML document starts here", "one document a file")
        elif isinstance(event, yaml.ScalarEvent):
            self._check_tag(event.tag, line)
            self._add(self._scalar(event, line), event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._add(self._alias(event.anchor or "", line), None)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._check_tag(event.tag, line)
            if len(self._open) >= DEPTH_MAX:
                raise _RefusedError(line, "tables or lists are nested too deep", f"at most {DEPTH_MAX} levels")
            if event.anchor is not None:
                self._anchors[event.anchor] = None
            self._open.append(_Open(line, event.anchor, isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            done = self._open.pop()
            self._add(self._close(done), done.anchor)

    def _check_tag(self, tag: str | None, line: int) -> None:
        if tag is not None and tag != "!" and tag not in _TAGS:
            raise _RefusedError(line, f"the YAML tag {shown(tag)} is not supported", "plain values without tags")

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> _Built:
        value: str = event.value
        is_plain = event.style in (None, "")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise _RefusedError(line, "half of a surrogate pair is no character", "Unicode text")
        if is_plain and value in _NULLS and event.tag != "tag:yaml.org,2002:str":
            return _Built(Node(None, line, is_loose=True), word=value, is_plain=True)
        filled = value
        if not (self._open and self._open[-1].is_table and self._open[-1].key is None):
            filled = self._filled(value, line)
        return _Built(Node(filled, line, is_loose=True), word=value, is_plain=is_plain)

    def _filled(self, value: str, line: int) -> str:
        try:
            filled = self._interpolator.fill(value)
        except InterpolationError as problem:
            self._findings.refuse(line, "", str(problem))
            return value
        for name in self._interpolator.unset:
            self._findings.ignore(line, "", f"variable {shown(name)} is not set; it is taken as empty")
        self._interpolator.unset.clear()
        return filled

    def _alias(self, anchor: str, line: int) -> _Built:
        if anchor not in self._anchors:
            raise _RefusedError(line, f"the alias *{anchor[:60]} names no anchor above it", "an anchor set before")
        target = self._anchors[anchor]
        if target is None:
            raise _RefusedError(line, f"the alias *{anchor[:60]} contains itself", "an alias of a finished value")
        return target

    def _add(self, built: _Built, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = built
        if not self._open:
            self.root = built.node
            return
        parent = self._open[-1]
        parent.size += built.size
        if parent.size > EXPANDED_NODES_MAX:
            message = f"the file holds more than {EXPANDED_NODES_MAX} values once its aliases are followed"
            raise _RefusedError(built.node.line, message, "fewer values and aliases")
        if not parent.is_table:
            parent.elements.append(built)
        elif parent.key is None:
            if built.word is None:
                raise _RefusedError(built.node.line, "a list or table cannot be a key", "keys that are words")
            parent.key = built
        else:
            key, parent.key = parent.key, None
            if key.word == "<<" and key.is_plain:
                parent.merges.append(built)
            else:
                parent.pairs.append((key.word or "", key.node.line, built))

    def _close(self, done: _Open) -> _Built:
        if not done.is_table:
            nodes = tuple(built.node for built in done.elements)
            return _Built(Node(nodes, done.line, is_loose=True), done.size)
        table: dict[str, Node] = {}
        for name, line, built in done.pairs:
            if name in table:
                message = f"key {shown(name)} is given twice, first on line {table[name].line}"
                self._findings.refuse(line, name[:64], message, "each key once in a table")
                continue
            table[name] = Node(built.node.value, line, is_loose=True)
        for built in done.merges:
            self._merge(table, built)
        return _Built(Node(table, done.line, is_loose=True), done.size)

    def _merge(self, table: dict[str, Node], built: _Built) -> None:
        value = built.node.value
        sources = value if isinstance(value, tuple) else (built.node,)
        for source in sources:
            if not isinstance(source.value, dict):
                self._findings.refuse(built.node.line, "<<", "only a table can be merged", "*anchor of a table")
                continue
            for name, node in source.value.items():
                table.setdefault(name, node)
