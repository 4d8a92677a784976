"""The table of allocations, which knows those of each service and of each node.

It is a dict; what it keeps beside follows from its content, so it is in no snapshot, and
two replicas with equal content are equal. Without it whatever looks at one service or one node goes
through all copies of the cluster, and a plan of a million copies costs as much as a million plans of one.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from orca.model.allocation import Allocation
from orca.model.ids import AllocationId, NodeId, ServiceId

_NONE: Final[Mapping[AllocationId, Allocation]] = {}


class AllocationTable(dict[AllocationId, Allocation]):
    """Allocations by id. Only item assignment, deletion, `pop` and `clear` change it."""

    __slots__ = ("_by_node", "_by_service", "_changes", "_versions")

    def __init__(self, content: Mapping[AllocationId, Allocation] = _NONE) -> None:
        super().__init__()
        self._by_service: dict[ServiceId, dict[AllocationId, Allocation]] = {}
        self._by_node: dict[NodeId, dict[AllocationId, Allocation]] = {}
        self._versions: dict[ServiceId, int] = {}
        self._changes = 0
        for one in content.values():
            self[one.id] = one

    def __setitem__(self, name: AllocationId, one: Allocation) -> None:
        before = self.get(name)
        if before is not None and (before.node != one.node or before.service != one.service):
            del self[name]
        super().__setitem__(name, one)
        self._by_service.setdefault(one.service, {})[name] = one
        self._by_node.setdefault(one.node, {})[name] = one
        self._changes += 1
        self._versions[one.service] = self._changes

    def __delitem__(self, name: AllocationId) -> None:
        one = self[name]
        super().__delitem__(name)
        self._changes += 1
        self._versions[one.service] = self._changes
        copies, neighbours = self._by_service[one.service], self._by_node[one.node]
        del copies[name], neighbours[name]
        if not copies:
            del self._by_service[one.service], self._versions[one.service]
        if not neighbours:
            del self._by_node[one.node]

    def pop(self, name: AllocationId, *default: Any) -> Any:
        """As of a dict."""
        if name not in self:
            return super().pop(name, *default)
        one = self[name]
        del self[name]
        return one

    def clear(self) -> None:
        """As of a dict."""
        for name in list(self):
            del self[name]

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a table of allocations is changed item by item")

    update = setdefault = popitem = __ior__ = _refuse

    def of_service(self, service: ServiceId) -> Mapping[AllocationId, Allocation]:
        """The copies of `service`; read it, never change it."""
        return self._by_service.get(service, _NONE)

    def of_node(self, node: NodeId) -> Mapping[AllocationId, Allocation]:
        """The copies on `node`; read it, never change it."""
        return self._by_node.get(node, _NONE)

    def version_of(self, service: ServiceId) -> int:
        """A number that is another one after each change of the copies of `service`; 0 without copies."""
        return self._versions.get(service, 0)

    def services(self) -> Iterable[ServiceId]:
        """Every service that has copies."""
        return self._by_service.keys()

    def check_invariants(self) -> None:
        """Raise AssertionError when what is kept beside does not follow from the content."""
        again = AllocationTable(self)
        assert again._by_service == self._by_service, "the copies of services are not those in the table"
        assert again._by_node == self._by_node, "the copies on nodes are not those in the table"
        assert self._versions.keys() == self._by_service.keys(), "a service without copies has a version"


__all__ = ["AllocationTable"]
