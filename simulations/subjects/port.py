"""One node of any engine, as clients and faults see it."""

from collections.abc import Callable
from typing import Protocol

from orca.model.ids import NodeId
from simulations.registers import Answer, Operation, Registers

Reply = Callable[[Answer], None]


class Subject(Protocol):
    """A node that may be up or down."""

    @property
    def node(self) -> NodeId:
        """Who it is, over all its lives."""
        ...

    @property
    def is_up(self) -> bool:
        """Whether its process runs, standing still or not."""
        ...

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as it knows."""
        ...

    @property
    def registers(self) -> Registers:
        """Its replicated state."""
        ...

    def submit(self, operation: Operation, reply: Reply) -> None:
        """A client asks; `reply` is called once at most, and never after a crash."""
        ...

    def start(self) -> None:
        """A new life, with what the disk has."""
        ...

    def crash(self) -> None:
        """The process is gone, in the middle of whatever it did."""
        ...
