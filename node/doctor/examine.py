"""The doctor on trio: tries the ways to all nodes, and collects the reports of all of them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import trio

from gossip.codec import PacketCodec
from gossip.messages import Address
from node.doctor.judge import find, outlook
from node.doctor.links import ping_tcp, ping_udp
from node.mesh.driver import Mesh
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from orca.errors import NodeUnreachableError, OrcaError, PeerProtocolError
from orca.model.doctor import DoctorReply, LinkKind, LinkView, NodeExamination, NodeReport
from orca.model.ids import NodeId
from orca.model.view import Observation
from orca.sources import Clock

PING_S: Final = 2.0
REPORT_S: Final = 8.0
"""A peer needs up to two pings' time for its own ways before it can answer."""
AT_ONCE_MAX: Final = 16
_PING: Final = b"ping"
_REPORT: Final = b"report"
_reports = msgspec.msgpack.Decoder(NodeReport)


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the cluster and how it is reached; `gossip` None: nobody knows where.

    `heard_age_ms`: how long ago it answered a probe of this node.
    """

    node: NodeId
    name: str
    gossip: Address | None = None
    mesh: str = ""
    heard_age_ms: int | None = None


class Doctor:
    """`ways` gives the other nodes of the cluster, `own` this node's report without links; it may block."""

    def __init__(
        self,
        mesh: Mesh,
        clock: Clock,
        *,
        ways: Callable[[], Sequence[Way]],
        codec: Callable[[], PacketCodec],
        own: Callable[[], NodeReport],
    ) -> None:
        self._mesh = mesh
        self._clock = clock
        self._ways = ways
        self._codec = codec
        self._own = own

    async def serve(self, peer: NodeId, frames: FrameStream) -> None:
        """Answer a ping, or give this node's report."""
        asked = await frames.receive()
        if asked == _PING:
            await frames.send((_PING,))
        elif asked == _REPORT:
            await frames.send((msgspec.msgpack.encode(await self.report()),))
        else:
            raise PeerProtocolError(f"{peer} asks the doctor for {asked[:40]!r}")

    # ------------------------------------------------------------------- this node

    async def report(self) -> NodeReport:
        """What this node finds out about itself and its ways to the others."""
        links: list[LinkView] = []
        limiter = trio.CapacityLimiter(AT_ONCE_MAX)
        async with trio.open_nursery() as nursery:
            for way in self._ways():
                nursery.start_soon(self._try_ways, way, limiter, links)
            own = await trio.to_thread.run_sync(self._own)
        order = {kind: number for number, kind in enumerate(LinkKind)}
        links.sort(key=lambda link: (link.peer, order[link.kind]))
        return msgspec.structs.replace(own, at_ms=self._clock.wall(), links=tuple(links))

    async def _try_ways(self, way: Way, limiter: trio.CapacityLimiter, links: list[LinkView]) -> None:
        async with limiter, trio.open_nursery() as nursery:
            if way.gossip is not None:
                codec = self._codec()
                for kind, ping in ((LinkKind.UDP, ping_udp), (LinkKind.TCP, ping_tcp)):
                    nursery.start_soon(self._try, way, kind, str(way.gossip), ping, codec, links)
            nursery.start_soon(self._try_mesh, way, links)

    @staticmethod
    async def _try(
        way: Way,
        kind: LinkKind,
        address: str,
        ping: Callable[[str, Address, PacketCodec], Awaitable[tuple[float | None, str]]],
        codec: PacketCodec,
        links: list[LinkView],
    ) -> None:
        assert way.gossip is not None, "asked only where it is known"
        rtt_ms, problem = await ping(str(way.node), way.gossip, codec)
        links.append(LinkView(peer=way.node, kind=kind, address=address, rtt_ms=_rounded(rtt_ms), problem=problem))

    async def _try_mesh(self, way: Way, links: list[LinkView]) -> None:
        rtt_ms, problem = None, f"no answer in {PING_S:g} s"
        with trio.move_on_after(PING_S):
            try:
                async with self._mesh.connect(way.node, Purpose.DOCTOR) as frames:
                    began = trio.current_time()
                    await frames.send((_PING,))
                    await frames.receive()
                    rtt_ms, problem = (trio.current_time() - began) * 1000, ""
            except OrcaError as error:
                problem = error.message
        links.append(
            LinkView(peer=way.node, kind=LinkKind.MESH, address=way.mesh, rtt_ms=_rounded(rtt_ms), problem=problem)
        )

    # ------------------------------------------------------------------- all nodes

    async def examine(self, observation: Observation, voters: frozenset[NodeId]) -> DoctorReply:
        """Every node's report, each within a deadline, and what is found in them."""
        found: list[NodeExamination] = []
        limiter = trio.CapacityLimiter(AT_ONCE_MAX)
        async with trio.open_nursery() as nursery:
            for way in self._ways():
                nursery.start_soon(self._examine_peer, way, limiter, found)
            own = await self.report()
        found.append(NodeExamination(node=own.node, name=own.name, report=own, heard_age_ms=0))
        nodes = tuple(
            msgspec.structs.replace(one, is_voter=one.node in voters)
            for one in sorted(found, key=lambda one: (one.name, one.node))
        )
        return DoctorReply(observation=observation, nodes=nodes, findings=find(nodes), outlook=outlook(nodes))

    async def _examine_peer(self, way: Way, limiter: trio.CapacityLimiter, found: list[NodeExamination]) -> None:
        seen = NodeExamination(node=way.node, name=way.name, heard_age_ms=way.heard_age_ms)
        async with limiter:
            try:
                found.append(await self._fetch(way, seen))
            except OrcaError as error:
                found.append(msgspec.structs.replace(seen, problem=error.message))

    async def _fetch(self, way: Way, seen: NodeExamination) -> NodeExamination:
        with trio.move_on_after(REPORT_S):
            async with self._mesh.connect(way.node, Purpose.DOCTOR) as frames:
                await frames.send((_REPORT,))
                payload = await frames.receive()
                received_ms = self._clock.wall()
            try:
                report = _reports.decode(payload)
            except msgspec.MsgspecError as error:
                raise PeerProtocolError(f"its report cannot be read: {error}") from error
            if report.node != way.node:
                raise PeerProtocolError(f"it gave the report of {report.node}")
            # It stamped its report just before it sent it: the way back is all that stands between the two clocks.
            trip_ms = next((one.round_trip_s for one in self._mesh.peers() if one.node == way.node), None)
            error_ms = round(1000 if trip_ms is None else trip_ms * 1000) + 5
            return msgspec.structs.replace(
                seen,
                report=report,
                clock_offset_ms=int(report.at_ms - received_ms),
                clock_error_ms=error_ms,
            )
        raise NodeUnreachableError(f"no report within {REPORT_S:g} s")


def _rounded(rtt_ms: float | None) -> float | None:
    return None if rtt_ms is None else round(rtt_ms, 2)
