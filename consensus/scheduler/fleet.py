"""All living nodes, and what is reserved on each: kept from plan to plan, brought up to date by what changed.

A service's copies are counted again only when its copies or their statuses changed, so a plan costs what changed and
not what there is. Beyond `COLUMNS_FROM` nodes the same numbers stand in columns as well (`columns.py`); then which
nodes may take a copy, and in which order, is asked of all nodes at once.
"""

import operator
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final

import msgspec

from consensus.scheduler.beliefs import Beliefs
from consensus.scheduler.feasible import Usage
from consensus.scheduler.site import Site, site_of
from consensus.state.cluster import ClusterState
from consensus.state.records import NodeRecord
from orca.model.allocation import TERMINAL_PHASES
from orca.model.ids import NodeId, ServiceId
from orca.model.node import NodeFacts
from orca.model.spec import ContainerImage, ServiceSpec

if TYPE_CHECKING:
    from consensus.scheduler.columns import Columns

COLUMNS_FROM: Final = 256
"""So many nodes are worth NumPy, which costs 17 MB of memory and a third of a second once."""


class _Share(msgspec.Struct, frozen=True, gc=False):
    """What copies of one revision on one node take."""

    node: NodeId
    spec: ServiceSpec
    number: int


class Fleet:
    """The scheduler's table of nodes. `refresh` before each use; `add` what is placed since."""

    def __init__(self, columns_from: int = COLUMNS_FROM) -> None:
        self.sites: list[Site] = []
        self.by_id: dict[NodeId, Site] = {}
        self.is_draining = False
        self.index: dict[NodeId, int] = {}
        self.version = 0
        self._columns_from = columns_from
        self._facts: list[NodeFacts] = []
        self._records: list[NodeRecord] = []
        self._columns: Columns | None = None
        self._usages: dict[NodeId, Usage] = {}
        self._shares: dict[ServiceId, list[_Share]] = {}
        self._seen: dict[ServiceId, tuple[int, int] | None] = {}
        self._holders: dict[str, dict[NodeId, int]] = {}

    # ------------------------------------------------------------------------ from the world

    def refresh(self, state: ClusterState, beliefs: Beliefs) -> None:
        """Take in what is new about nodes and about copies; all that was added without being in `state` is gone."""
        self._refresh_sites(state, beliefs)
        for service in [name for name in self._shares if not state.copies.version_of(name)]:
            self._forget(service)
        for service in state.copies.services():
            versions = beliefs.status_versions
            seen = None if versions is None else (state.copies.version_of(service), versions.get(service, 0))
            if seen is None or self._seen.get(service) != seen:
                self._recount(state, beliefs, service)
                self._seen[service] = seen

    def _refresh_sites(self, state: ClusterState, beliefs: Beliefs) -> None:
        nodes, records = beliefs.nodes, state.nodes
        if _is_same(self._facts, nodes.values()) and _is_same(self._records, records.values()):
            return
        self._facts, self._records = list(nodes.values()), list(records.values())
        known = {one.id: one for one in self.sites}
        sites: list[Site] = []
        for node in sorted(nodes):
            before, facts, record = known.get(node), nodes[node], records.get(node)
            is_same = before is not None and before.facts is facts and before.record is record
            sites.append(before if is_same and before is not None else site_of(facts, record))
        self.sites = sites
        self.by_id = {one.id: one for one in sites}
        self.is_draining = any(one.is_draining for one in sites)
        self.index = {one.id: number for number, one in enumerate(sites)}
        self.version += 1
        self._columns = None

    def _recount(self, state: ClusterState, beliefs: Beliefs, service: ServiceId) -> None:
        self._forget(service)
        statuses = beliefs.statuses
        numbers: dict[tuple[NodeId, int], int] = {}
        specs: dict[int, ServiceSpec] = {}
        for one in state.copies.of_service(service).values():
            status = statuses.get(one.id)
            if status is not None and status.phase in TERMINAL_PHASES:
                continue
            if one.revision not in specs:
                specs[one.revision] = state.spec_of(one)
            key = (one.node, one.revision)
            numbers[key] = numbers.get(key, 0) + 1
        adders = {revision: self.adder(spec) for revision, spec in specs.items()}
        for (node, revision), number in numbers.items():
            adders[revision](node, number)

    def _forget(self, service: ServiceId) -> None:
        self._seen.pop(service, None)
        for share in self._shares.pop(service, ()):
            self.usage(share.node).remove(share.spec, share.number)
            self._touch(share.node)
            holders = self._holders[source_of(share.spec)]
            holders[share.node] -= share.number
            if not holders[share.node]:
                del holders[share.node]

    # -------------------------------------------------------------------------- while planning

    def add(self, node: NodeId, spec: ServiceSpec, number: int = 1) -> None:
        """Count `number` more copies of `spec` on `node`; the next `refresh` looks whether they came true."""
        self.adder(spec)(node, number)

    def adder(self, spec: ServiceSpec) -> Callable[[NodeId, int], None]:
        """What `add` does for copies of `spec`, for whoever adds many: most of it is found once."""
        service = spec.id
        shares = self._shares.setdefault(service, [])
        holders = self._holders.setdefault(source_of(spec), {})
        usages, index = self._usages, self.index
        self._seen.pop(service, None)

        def add(node: NodeId, number: int) -> None:
            shares.append(_Share(node, spec, number))
            usage = usages.get(node)
            if usage is None:
                usage = self.usage(node)
            usage.add(spec, number)
            holders[node] = holders.get(node, 0) + number
            if self._columns is not None and (place := index.get(node)) is not None:
                self._columns.touch(place)

        return add

    def usage(self, node: NodeId) -> Usage:
        """What is reserved on `node`."""
        found = self._usages.get(node)
        if found is None:
            found = self._usages[node] = Usage(copies={}, host_ports={})
        return found

    def vacate(self, service: ServiceId) -> None:
        """Count as if the copies of `service` had made room, until the next `refresh`."""
        self._forget(service)

    def copies_of(self, service: ServiceId) -> dict[NodeId, int]:
        """How many copies of `service` each node has."""
        found: dict[NodeId, int] = {}
        for share in self._shares.get(service, ()):
            found[share.node] = found.get(share.node, 0) + share.number
        return found

    def holders_of(self, spec: ServiceSpec) -> dict[NodeId, int]:
        """The nodes that have copies of the same image or module, so that nothing has to be fetched there."""
        return self._holders.get(source_of(spec), {})

    def columns(self) -> "Columns | None":
        """The same in columns; None for few nodes."""
        if len(self.sites) < self._columns_from:
            return None
        if self._columns is None:
            from consensus.scheduler.columns import Columns

            self._columns = Columns(self.sites, [self.usage(one.id) for one in self.sites])
        return self._columns

    def _touch(self, node: NodeId) -> None:
        if self._columns is not None and (number := self.index.get(node)) is not None:
            self._columns.touch(number)


def fleet_of(state: ClusterState, beliefs: Beliefs) -> Fleet:
    """The table of this moment, from nothing."""
    fleet = Fleet()
    fleet.refresh(state, beliefs)
    return fleet


def _is_same(before: list[Any], now: Collection[Any]) -> bool:
    """Whether these are the same objects in the same order."""
    return len(before) == len(now) and all(map(operator.is_, before, now))


def source_of(spec: ServiceSpec) -> str:
    """What has to be on a node before a copy can start there."""
    return spec.source.image if isinstance(spec.source, ContainerImage) else spec.source.module
