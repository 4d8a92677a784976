"""Where a node's figures come from, joined."""

import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import psutil
import trio

from consensus.driver import ReplicaDriver
from node.api.caller import Caller
from node.api.far import Connector, FarNodes
from node.control import Control
from node.copies import LocalCopies
from node.figures.driver import Figures
from node.figures.store import SeriesStore
from node.proxy.server import ProxyServer
from node.store.environment import Environment
from node.store.events import EventLog
from node.store.identity import Identity
from node.trust.credentials import NodeCredentials
from orca.errors import OrcaError
from orca.model.allocation import Allocation
from orca.model.ids import NodeId
from orca.model.trust import ApiRole
from orca.model.view import StatsView
from orca.sources import Clock

PEER_ANSWER_S = 5.0


class ComputerFigures:
    """Of this computer and this node's own store."""

    def __init__(self, data_path: Path, environment: Environment, credentials: NodeCredentials, clock: Clock) -> None:
        self._data_path = data_path
        self._environment = environment
        self._credentials = credentials
        self._clock = clock
        psutil.cpu_percent(None)  # from here on it counts

    def quick(self) -> Mapping[str, float]:
        """Processor and memory."""
        memory = psutil.virtual_memory()
        return {
            "node_cpu_share": psutil.cpu_percent(None) / 100,
            "node_memory_bytes": float(memory.total - memory.available),
            "node_memory_share": 1.0 - memory.available / memory.total,
        }

    def slow(self) -> Mapping[str, float]:
        """Disk, inodes, store, certificate."""
        disk, inodes = shutil.disk_usage(self._data_path), os.statvfs(self._data_path)
        usage, life = self._environment.usage(), self._credentials.lifetime()
        found = {
            "disk_free_share": disk.free / disk.total if disk.total else 1.0,
            "store_share": usage.used_bytes / usage.limit_bytes,
        }
        if inodes.f_files:
            found["inode_free_share"] = inodes.f_favail / inodes.f_files
        if life.not_before_ms is not None and life.not_after_ms is not None:
            left_ms = life.not_after_ms - self._clock.wall()
            found["certificate_left_share"] = left_ms / max(1, life.not_after_ms - life.not_before_ms)
        return found


class OwnCopies:
    """The copies of this node."""

    def __init__(self, node: NodeId, replica: ReplicaDriver, copies: LocalCopies) -> None:
        self._node = node
        self._replica = replica
        self._copies = copies

    def own(self) -> Sequence[Allocation]:
        """As they stand in the state."""
        return list(self._replica.state.copies.of_node(self._node).values())

    async def measure(self, copies: Sequence[Allocation]) -> tuple[StatsView, ...]:
        """What these use now."""
        return await self._copies.measure(copies)


class PeerClocks:
    """Compares this node's clock with those of others, one after the other."""

    def __init__(self, control: Control, connect: Connector, clock: Clock) -> None:
        self._far = FarNodes(control, connect)
        self._clock = clock
        self._turns = count()
        self._caller = Caller(actor="figures", origin="local", role=ApiRole.VIEWER)

    async def offset_s(self) -> tuple[NodeId, float] | None:
        """How far the next node's clock is ahead, give or take half of what its answer took."""
        others = self._far.others()
        if not others:
            return None
        node = others[next(self._turns) % len(others)]
        try:
            with trio.fail_after(PEER_ANSWER_S):
                async with self._far.client(node, self._caller) as client:
                    began_ms = self._clock.wall()
                    reply = await client.quorum()
                    ended_ms = self._clock.wall()
        except (OrcaError, trio.TooSlowError):
            return None
        return node, (reply.observation.at_ms - (began_ms + ended_ms) / 2) / 1000


def make_figures(  # noqa: PLR0913 - it joins them
    identity: Identity,
    clock: Clock,
    data_path: Path,
    series: SeriesStore,
    environment: Environment,
    events: EventLog,
    *,
    credentials: NodeCredentials,
    replica: ReplicaDriver,
    control: Control,
    proxy: ProxyServer,
    connect: Connector,
) -> Figures:
    """The figures of the node that `control` is the door to."""
    return Figures(
        identity.name,
        clock,
        series,
        events,
        ComputerFigures(data_path, environment, credentials, clock),
        OwnCopies(identity.node, replica, control.copies),
        proxy,
        peer_offset_s=PeerClocks(control, connect, clock).offset_s,
    )
