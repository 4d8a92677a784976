"""What is known of this node's containers, kept current by events. Plain state, no IO."""

from dataclasses import dataclass, field

import trio

from node.runtime.base import Workload
from orca.model.ids import AllocationId


@dataclass(eq=False)
class Record:
    """One container.

    `workload` is kept only until its first start succeeded: if the engine turns out to
    have no init, the container is made again without. `is_ending` says that its end is
    our own doing. `changed` is set at the next event.
    """

    allocation: AllocationId
    container: str
    networks: tuple[str, ...]
    is_running: bool = False
    is_removed: bool = False
    is_ending: bool = False
    is_oom_killed: bool = False
    workload: Workload | None = None
    changed: trio.Event = field(default_factory=trio.Event)

    def notify(self) -> None:
        """Wake whoever waits for a change."""
        self.changed.set()
        self.changed = trio.Event()
