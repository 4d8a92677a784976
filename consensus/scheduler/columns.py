"""Nodes in columns: which may take a copy, and in which order, asked of all of them at once.

The rules are those of `feasible` and `rank`; a test holds the two against each other on drawn clusters. What depends
on a single node's neighbours (host ports, `beside`, `apart_from`, a most per node) is left to `feasible`, which is
asked about a node before it is chosen.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from consensus.scheduler.feasible import Bounds, Usage
from consensus.scheduler.site import Site
from orca.model.constraint import Constraint, Operator, attribute_of, parse_constraint
from orca.model.spec import PlacementStrategy, RuntimeKind, ServiceSpec

Mask: TypeAlias = npt.NDArray[np.bool_]
Numbers: TypeAlias = npt.NDArray[np.int64]


class Columns:
    """One array a property, in the order of the nodes' ids. `touch` a node whose usage changed."""

    def __init__(self, sites: Sequence[Site], usages: Sequence[Usage]) -> None:
        self._sites = sites
        self._usages = usages
        self._cpu = np.array([one.facts.cpu_milli for one in sites], dtype=np.int64)
        self._memory = np.array([one.facts.memory_bytes for one in sites], dtype=np.int64)
        self._cpu_used = np.zeros(len(sites), dtype=np.int64)
        self._memory_used = np.zeros(len(sites), dtype=np.int64)
        self._stale = dict.fromkeys(range(len(sites)))
        self._takes: dict[RuntimeKind, Mask] = {}
        self._holds: dict[Constraint, Mask] = {}
        self._coded: dict[str, tuple[Numbers, list[str | None]]] = {}

    def touch(self, number: int) -> None:
        """The usage of that node is another one."""
        self._stale[number] = None

    def order(
        self,
        spec: ServiceSpec,
        bounds: Bounds | None,
        copies: Mapping[int, int],
        holders: Iterable[int],
    ) -> Numbers:
        """The nodes that may take one more copy, the best first; `copies` of the service and who has its image."""
        self._catch_up()
        able = np.flatnonzero(self._able(spec, bounds))
        load = np.maximum(
            self._cpu_used[able] / np.maximum(1, self._cpu[able]),
            self._memory_used[able] / np.maximum(1, self._memory[able]),
        )
        fetches = np.ones(len(self._sites), dtype=np.int8)
        fetches[list(holders)] = 0
        keys: list[npt.NDArray[Any]] = [fetches[able], -self._liking(spec)[able]]
        if spec.placement.strategy is PlacementStrategy.BIN_PACK:
            keys.insert(0, -load)
        else:
            present = np.zeros(len(self._sites), dtype=np.int64)
            present[list(copies.keys())] = list(copies.values())
            keys[:1] = [load, fetches[able], present[able]]
        ordered: Numbers = able[np.lexsort(keys)]
        return ordered

    def _catch_up(self) -> None:
        for number in self._stale:
            self._cpu_used[number] = self._usages[number].cpu_milli
            self._memory_used[number] = self._usages[number].memory_bytes
        self._stale.clear()

    def _able(self, spec: ServiceSpec, bounds: Bounds | None) -> Mask:
        placement, resources = spec.placement, spec.resources
        mask = self._takes_kind(spec.runtime).copy()
        if placement.node is not None:
            named = (Constraint(kind, Operator.IN, (placement.node,)) for kind in ("name", "id"))
            mask &= self._hold(next(named)) | self._hold(next(named))
        wanted = [Constraint(f"labels.{key}", Operator.IN, (value,)) for key, value in placement.labels.items()]
        wanted += [parse_constraint(text) for text in placement.constraints]
        if placement.spread is not None:
            wanted.append(Constraint(f"labels.{placement.spread}", Operator.SET))
        for constraint in wanted:
            mask &= self._hold(constraint)
        if bounds is not None:
            mask &= np.array([one.id in bounds.nodes for one in self._sites], dtype=np.bool_)
        mask &= self._cpu_used + (resources.cpu_milli or 0) <= self._cpu
        mask &= self._memory_used + (resources.memory_bytes or 0) <= self._memory
        return mask

    def _takes_kind(self, kind: RuntimeKind) -> Mask:
        if kind not in self._takes:
            self._takes[kind] = np.array(
                [
                    one.facts.accepts_work
                    and not one.closed
                    and any(runtime.kind is kind and runtime.is_available for runtime in one.facts.runtimes)
                    for one in self._sites
                ],
                dtype=np.bool_,
            )
        return self._takes[kind]

    def _hold(self, constraint: Constraint) -> Mask:
        """Where it holds: asked once for each value that there is, not once a node."""
        if constraint not in self._holds:
            codes, values = self._column(constraint.attribute)
            truth = np.array([constraint.holds_for(value) for value in values], dtype=np.bool_)
            self._holds[constraint] = truth[codes]
        return self._holds[constraint]

    def _column(self, attribute: str) -> tuple[Numbers, list[str | None]]:
        if attribute not in self._coded:
            code: dict[str | None, int] = {}
            codes = [code.setdefault(attribute_of(one.facts, one.labels, attribute), len(code)) for one in self._sites]
            self._coded[attribute] = np.array(codes, dtype=np.int64), list(code)
        return self._coded[attribute]

    def _liking(self, spec: ServiceSpec) -> Numbers:
        total = np.zeros(len(self._sites), dtype=np.int64)
        for one in spec.placement.prefer:
            total += one.weight * self._hold(parse_constraint(one.match))
        return total
