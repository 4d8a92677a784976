"""`deploy.placement` of a Compose service."""

import re
from typing import Final

from orca.model.constraint import parse_constraint
from orca.model.spec import PlacementSpec
from orca.specs.findings import shown
from orca.specs.section import Item, Section

_CONSTRAINT: Final = re.compile(r"\s*node\.(hostname|platform\.os|labels\.([A-Za-z0-9_./-]+))\s*==\s*(\S+)\s*")
_CONSTRAINT_ALLOWED: Final = '"node.labels.disk == ssd", "node.hostname != node-1"'


def read_placement(item: Item) -> PlacementSpec:
    """`deploy.placement`: constraints on nodes, one spread preference, and how many copies a node takes."""
    table = Section(item, ("constraints", "preferences", "max_replicas_per_node"), allows_extensions=True)
    others: list[str] = []
    labels: dict[str, str] = {}
    node: str | None = None
    for entry in [] if (given := table.get("constraints")) is None else given.items():
        text = entry.text()
        match = None if text is None else _CONSTRAINT.fullmatch(text)
        if match is None:
            if text is not None and _is_expression(text):
                others.append(text)
            elif text is not None:
                entry.refuse(f"constraint {shown(text)} is not supported", _CONSTRAINT_ALLOWED)
        elif match[1] == "hostname":
            node = match[3]
        elif match[1] == "platform.os":
            entry.ignore("every node runs Linux")
            if match[3] != "linux":
                entry.refuse(f"no node runs {shown(match[3])}", "linux")
        elif labels.setdefault(match[2], match[3]) != match[3]:
            entry.refuse(f"label {shown(match[2])} cannot have two values", "one value")
    most = table.read("max_replicas_per_node", Item.integer, None) or None  # 0 is Compose's word for any number
    spread: str | None = None
    for entry in [] if (given := table.get("preferences")) is None else given.items():
        label = Section(entry, ("spread",)).read("spread", Item.text, None)
        if label is None or not label.startswith("node.labels.") or spread is not None:
            entry.refuse("this preference is not supported", "one preference such as spread: node.labels.zone")
        else:
            spread = label.removeprefix("node.labels.")
    return PlacementSpec(labels=labels, node=node, spread=spread, constraints=tuple(others), copies_per_node_max=most)


def _is_expression(text: str) -> bool:
    """Whether it is a constraint of Swarm that Orca knows in the same words."""
    try:
        parse_constraint(text)
    except ValueError:
        return False
    return text.strip().startswith("node.")
