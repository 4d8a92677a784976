"""Where copies go: the `placement` and `disconnect` tables of a service, and what may stand in them."""

import re
from collections.abc import Iterator
from typing import Final

from orca.model.constraint import ALLOWED, parse_constraint
from orca.model.ids import ServiceName
from orca.model.spec import (
    DisconnectSpec,
    PlacementSpec,
    PlacementStrategy,
    Preference,
    ServiceMode,
    ServiceSpec,
)
from orca.specs.findings import Fault, shown
from orca.specs.section import Item, Section

WEIGHT_MAX: Final = 100
PRIORITY_MAX: Final = 100
_EXPRESSIONS_MAX: Final = 32
STOP_AFTER_S_MIN: Final = 5.0
"""A change of leader takes up to two seconds, and moves nothing."""
_SECONDS_MAX: Final = 7 * 86_400.0
_KEYS: Final = (
    *("labels", "node", "spread", "constraints", "prefer", "strategy"),
    *("beside", "apart_from", "copies_per_node_max"),
)


def read_placement(item: Item) -> PlacementSpec:
    """The table `[service.placement]`."""
    table = Section(item, _KEYS)
    preferred = [] if (given := table.get("prefer")) is None else given.items_or_one()
    return PlacementSpec(
        labels=table.read("labels", Item.string_map, {}),
        node=table.read("node", Item.text, None),
        spread=table.read("spread", Item.text, None),
        constraints=table.read("constraints", Item.strings_or_one, ()),
        prefer=tuple(found for one in preferred if (found := _preference(one)) is not None),
        strategy=table.read(
            "strategy", lambda one: one.choice({way.value: way for way in PlacementStrategy}), PlacementStrategy.SPREAD
        ),
        beside=tuple(ServiceName(name) for name in table.read("beside", Item.strings_or_one, ())),
        apart_from=tuple(ServiceName(name) for name in table.read("apart_from", Item.strings_or_one, ())),
        copies_per_node_max=table.read("copies_per_node_max", Item.integer, None),
    )


def _preference(item: Item) -> Preference | None:
    if not item.is_table:
        text = item.filled_text()
        return None if text is None else Preference(match=text)
    table = Section(item, ("match", "weight"))
    if not table.has("match"):
        item.refuse("the preference says nothing about a node", '{ match = "disk == ssd", weight = 50 }')
        return None
    return Preference(
        match=table.read("match", Item.filled_text, "name"), weight=table.read("weight", Item.integer, 50)
    )


def read_mode(item: Item) -> ServiceMode | None:
    """`replicated` or `global`."""
    return item.choice({mode.value: mode for mode in ServiceMode})


def read_disconnect(item: Item) -> DisconnectSpec:
    """`{ keep = true }`, or `{ replace_after = "30s" }`; beside either `stop_after = "1m"`."""
    table = Section(item, ("keep", "replace_after", "stop_after"))
    keeps = table.read("keep", Item.boolean, False)
    if keeps and (after := table.get("replace_after")) is not None:
        after.refuse("copies that are kept are not replaced", "keep or replace_after, not both")
    default = DisconnectSpec().replace_after_s
    return DisconnectSpec(
        replace_after_s=None if keeps else table.read("replace_after", Item.duration, default),
        stop_after_s=table.read("stop_after", Item.duration, None),
    )


def find_placement_faults(spec: ServiceSpec) -> Iterator[Fault]:
    """What is wrong with where `spec` wants its copies."""
    placement = spec.placement
    for name, value in placement.labels.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,127}", name) or len(value) > 256:
            yield Fault(f"placement.labels.{name}", f"{shown(name)} is no node label", 'a label such as disk = "ssd"')
    for field, text in (("node", placement.node), ("spread", placement.spread)):
        if text is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,252}", text):
            yield Fault(f"placement.{field}", f"{shown(text)} is no valid name", "letters, digits, '_', '.', '-'")
    expressions = [(f"placement.constraints[{n}]", text) for n, text in enumerate(placement.constraints)]
    expressions += [(f"placement.prefer[{n}]", one.match) for n, one in enumerate(placement.prefer)]
    if len(expressions) > _EXPRESSIONS_MAX:
        yield Fault("placement", f"{len(expressions)} expressions are too many", f"at most {_EXPRESSIONS_MAX}")
    for path, text in expressions[:_EXPRESSIONS_MAX]:
        try:
            parse_constraint(text)
        except ValueError as problem:
            yield Fault(path, f"{shown(text)}: {problem}", ALLOWED)
    for index, one in enumerate(placement.prefer):
        if not 0 < abs(one.weight) <= WEIGHT_MAX:
            allowed = f"-{WEIGHT_MAX} to {WEIGHT_MAX}, not 0"
            yield Fault(f"placement.prefer[{index}]", f"the weight {one.weight} is out of range", allowed)
    yield from _neighbours(spec)
    if placement.copies_per_node_max is not None and not 1 <= placement.copies_per_node_max <= 10_000:
        message = f"{placement.copies_per_node_max} copies on a node are out of range"
        yield Fault("placement.copies_per_node_max", message, "1 to 10000")
    if not 0 <= spec.priority <= PRIORITY_MAX:
        yield Fault("priority", f"{spec.priority} is out of range", f"0 to {PRIORITY_MAX}")
    yield from _disconnect(spec)


def _neighbours(spec: ServiceSpec) -> Iterator[Fault]:
    placement = spec.placement
    for field, names in (("beside", placement.beside), ("apart_from", placement.apart_from)):
        for index, name in enumerate(names):
            path = f"placement.{field}[{index}]"
            if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", name):
                yield Fault(path, f"{shown(name)} is no name of a service", "a service of the same project")
            elif name == spec.name:
                mend = "copies_per_node_max = 1, to keep copies of one service apart" if field == "apart_from" else ""
                yield Fault(path, "a service cannot be named in its own list", mend or "another service")
            elif field == "beside" and name in placement.apart_from:
                yield Fault(path, f"{name} is in beside and in apart_from", "one of the two")


def _disconnect(spec: ServiceSpec) -> Iterator[Fault]:
    seconds = spec.disconnect.replace_after_s
    if seconds is not None and not 0 <= seconds <= _SECONDS_MAX:
        yield Fault("disconnect.replace_after_s", f"{seconds:g} s is out of range", f"0 to {_SECONDS_MAX:g} s")
    stop_s = spec.disconnect.stop_after_s
    if stop_s is not None and not STOP_AFTER_S_MIN <= stop_s <= _SECONDS_MAX:
        allowed = f"{STOP_AFTER_S_MIN:g} to {_SECONDS_MAX:g} s"
        yield Fault("disconnect.stop_after_s", f"{stop_s:g} s is out of range", allowed)
    if stop_s is not None and spec.is_job:
        message = "a job that is stopped in the middle would not run again"
        yield Fault("disconnect.stop_after_s", message, "no stop_after for a job")


__all__ = ["find_placement_faults", "read_disconnect", "read_mode", "read_placement"]
