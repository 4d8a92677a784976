"""Makes what keeps the singletons of a node, for the agent."""

import os
from pathlib import Path
from typing import Protocol

from consensus.driver import ReplicaDriver
from node.mesh.driver import Mesh
from node.singletons.deadlines import Deadlines
from node.singletons.desk import LeaseDesk
from node.singletons.driver import Singletons
from node.sources import boot_clock
from node.store.identity import Identity
from node.workload_files import memory_place, memory_places
from orca.config import NodeConfig
from orca.sources import Clock


class _Listener(Protocol):
    def permits_changed(self) -> None:
        """A lease was had, or was lost."""
        ...


def make_singletons(
    config: NodeConfig,
    identity: Identity,
    data: Path,
    replica: ReplicaDriver,
    mesh: Mesh,
    clock: Clock,
    listener: _Listener,
) -> Singletons:
    """The ends of leases are noted in memory; with the node's data where there is none."""
    place = memory_place(memory_places(os.environ, os.geteuid()))
    directory = data / "leases" if place is None else place / "orca" / f"{identity.node}-leases"
    engine, labels = "", list[str]()
    if config.docker:  # imported only when it is used
        from node.runtime.docker.connection import engine_address
        from node.runtime.docker.request import instance_filter

        engine, labels = engine_address(config.docker_url or None).url, instance_filter(identity.cluster, identity.node)
    desk = LeaseDesk(identity.node, replica, mesh, clock)
    deadlines = Deadlines(directory, engine, tuple(labels))
    return Singletons(identity.node, boot_clock, desk, deadlines, changed=listener.permits_changed)
