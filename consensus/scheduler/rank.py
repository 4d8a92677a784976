"""Which of the feasible nodes are best; ties go to the lower id, so plans repeat.

Copies of one service are chosen one after the other, each time the best node as it is then. That is not done by
looking at all nodes each time: choosing a node changes the rank of that node alone (and the count of its zone), so
the others stay in the order in which they were sorted once, and a heap holds those that were chosen already.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TypeAlias

from consensus.scheduler.feasible import Bounds, Usage, present_refusal, refusal
from consensus.scheduler.fleet import Fleet
from consensus.scheduler.site import Site
from orca.model.constraint import attribute_of, parse_constraint
from orca.model.ids import NodeId
from orca.model.spec import PlacementStrategy, ServiceSpec

Key: TypeAlias = tuple[float, ...]


def liking(spec: ServiceSpec, site: Site) -> int:
    """The sum of the weights of those preferences that hold for the node."""
    total = 0
    for one in spec.placement.prefer:
        constraint = parse_constraint(one.match)
        if constraint.holds_for(attribute_of(site.facts, site.labels, constraint.attribute)):
            total += one.weight
    return total


def load_of(site: Site, usage: Usage) -> float:
    """The larger share of its cpu and its memory that is reserved."""
    facts = site.facts
    return max(usage.cpu_milli / max(1, facts.cpu_milli), usage.memory_bytes / max(1, facts.memory_bytes))


def choose_nodes(spec: ServiceSpec, fleet: Fleet, number: int, bounds: Bounds | None = None) -> list[NodeId]:
    """Nodes for up to `number` copies of `spec`, which are added to `fleet`; fewer when no other node takes one.

    Best is, in this order: fewest copies in the node's part of the spread label, what is preferred, fewest copies on
    the node (not when packing), the image is there, the smaller load (the larger one when packing).
    """
    # As it is now: where a copy is only planned, the image is not yet.
    copies, holders = fleet.copies_of(spec.id), dict(fleet.holders_of(spec))
    key = _key(spec, fleet, copies, holders)

    def takes(place: int) -> bool:
        site = fleet.sites[place]
        return refusal(spec, site, fleet.usage(site.id), bounds) is None

    def still_takes(place: int) -> bool:
        site = fleet.sites[place]
        return present_refusal(spec, site, fleet.usage(site.id)) is None

    columns = fleet.columns()
    if columns is None:
        ordered: Iterable[int] = sorted(filter(takes, range(len(fleet.sites))), key=key)
    else:
        at = {fleet.index[node]: count for node, count in copies.items() if node in fleet.index}
        ordered = columns.order(spec, bounds, at, [fleet.index[one] for one in holders if one in fleet.index]).tolist()
    label = spec.placement.spread
    if label is None:
        zones = {"": _Stream(iter(ordered), key, still_takes)}
    else:
        parts: dict[str, list[int]] = {}
        for place in ordered:
            parts.setdefault(fleet.sites[place].labels[label], []).append(place)
        zones = {zone: _Stream(iter(places), key, still_takes) for zone, places in parts.items()}
    counts = dict.fromkeys(zones, 0)
    if label is not None:
        for node, count in copies.items():
            zone = fleet.sites[fleet.index[node]].labels.get(label) if node in fleet.index else None
            if zone in counts:
                counts[zone] += count
    heads = [(counts[zone], head, zone) for zone, stream in zones.items() if (head := stream.head()) is not None]
    heapq.heapify(heads)
    chosen: list[NodeId] = []
    add = fleet.adder(spec)
    while heads and len(chosen) < number:
        count, _, zone = heapq.heappop(heads)
        stream = zones[zone]
        node = fleet.sites[stream.take()].id
        add(node, 1)
        copies[node] = copies.get(node, 0) + 1
        chosen.append(node)
        stream.put_back()
        if (head := stream.head()) is not None:
            heapq.heappush(heads, (count + 1, head, zone))
    return chosen


def _key(
    spec: ServiceSpec, fleet: Fleet, copies: Mapping[NodeId, int], holders: Collection[NodeId]
) -> Callable[[int], Key]:
    packs = spec.placement.strategy is PlacementStrategy.BIN_PACK
    sites, prefers = fleet.sites, bool(spec.placement.prefer)

    def key(place: int) -> Key:
        site = sites[place]
        liked = liking(spec, site) if prefers else 0
        fetches = site.id not in holders
        load = load_of(site, fleet.usage(site.id))
        if packs:
            return (-liked, fetches, -load, place)
        return (-liked, copies.get(site.id, 0), fetches, load, place)

    return key


class _Stream:
    """Nodes of one zone, the best first: those in the order of the start, and those that were chosen since."""

    def __init__(self, ordered: Iterator[int], key: Callable[[int], Key], takes: Callable[[int], bool]) -> None:
        self._ordered = ordered
        self._key = key
        self._takes = takes
        self._fresh: tuple[Key, int] | None = None
        self._again: list[tuple[Key, int]] = []
        self._taken = -1
        self._next()

    def _next(self) -> None:
        place = next((one for one in self._ordered if self._takes(one)), None)
        self._fresh = None if place is None else (self._key(place), place)

    def head(self) -> Key | None:
        """The rank of the best node; None when none is left."""
        best = self._best()
        while best is not None and best is not self._fresh and not self._takes(best[1]):
            heapq.heappop(self._again)
            best = self._best()
        return None if best is None else best[0]

    def _best(self) -> tuple[Key, int] | None:
        if not self._again:
            return self._fresh
        return self._again[0] if self._fresh is None else min(self._again[0], self._fresh)

    def take(self) -> int:
        """The best node; `put_back` it once its copy is counted."""
        best = self._best()
        assert best is not None, "there is no node to take"
        self._taken = best[1]
        if best is self._fresh:
            self._next()
        else:
            heapq.heappop(self._again)
        return self._taken

    def put_back(self) -> None:
        """The node that was taken may be chosen again, by the rank that it has now."""
        heapq.heappush(self._again, (self._key(self._taken), self._taken))
