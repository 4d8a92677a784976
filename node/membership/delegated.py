"""Membership by a Serf agent beside the node: who is there comes from the agent, facts go over the mesh.

The agent knows nothing of facts, and what Serf offers instead (tags of 512 bytes, events of 512 bytes that nobody
repeats) is too small and too lossy for the health of allocations. So the same machine that reconciles facts inside
our own gossip (`gossip.facts`) runs here too; its peers are the nodes that the agent's list has, and its frames
travel on mesh connections, where who speaks is proven and nothing is lost. A node that gossips itself answers such
peers over the mesh as well, so a cluster may be switched from one backend to the other node by node.

What the agent cannot know is whether the node beside it lives: see `pulses`.

The node carries its id in a tag of the agent, with the others of `tags`, and puts them back whenever they are gone
(an agent forgets them when it ends). An agent that is absent, or refuses the key, ends nothing: the last list stands
and grows old, what runs goes on, calls say why they cannot be done, and the agent is dialled for ever.
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog
import trio

from gossip.events import Tick
from gossip.facts import Facts, FactsConfig, FactsEvent, PeerAppeared, PeerDeparted
from gossip.membership import KeyReport as MembersKeyReport
from gossip.membership import Member, MembersChanged, MembershipNews, MemberStatus, StatusChange
from gossip.messages import Address
from gossip.rpc.delegate import SerfMembership
from gossip.serf import RotationEnded
from gossip.serf.coordinates import distance_s
from gossip.serf.keys import Rotation
from node.membership.backend import GossipStatus, Sinks
from node.membership.chronicle import Chronicle
from node.membership.tags import CLUSTER_TAG, ID_TAG, OWN_TAGS, mesh_of, node_of, own_tags
from node.membership.views import key_report, told_view
from node.mesh.driver import MeshAddress
from node.store.identity import Identity
from orca.config import GossipSection
from orca.errors import ConflictError, ForbiddenError, InvalidRequestError, OrcaError
from orca.model.units import Instant
from orca.model.view import KeyReport, MemberView
from orca.sources import Clock, Rng

_log = structlog.get_logger("orca.gossip")
FIRST_LIST_S: Final = 3.0
"""How long a start waits for the agent; the node starts without it all the same."""
REFUSED_RETRY_S: Final = 15.0
"""Until an agent that did not take the key is asked again: somebody has to change something first."""
UPKEEP_S: Final = 1.0
DISTANCES_S: Final = 10.0
DISTANCES_MAX: Final = 256
"""Members whose distance is asked for in one round; each is a question to the agent."""
ROTATION_S: Final = 300.0
_HERE: Final = (MemberStatus.ALIVE, MemberStatus.LEAVING)


class DelegatedGossip:
    """Leaves the membership to an agent. It is a `MembershipBackend`."""

    is_beside = True

    def __init__(
        self,
        config: GossipSection,
        identity: Identity,
        clock: Clock,
        rng: Rng,
        *,
        zone: str,
        chronicle: Chronicle,
        sinks: Sinks,
    ) -> None:
        self._agent = Address(config.agent.host, config.agent.port)
        self._identity = identity
        self._clock = clock
        self._zone = zone
        self._chronicle = chronicle
        self._sinks = sinks
        self.facts = Facts(FactsConfig(), str(identity.node), clock.wall(), rng, clock.now())
        self.cluster = SerfMembership(self._agent, config.agent.key, rng)
        self.cluster.subscribe(self._take)
        self._is_running = False
        self._tags: dict[str, str] = {}
        self._since: dict[str, Instant] = {}
        self._distances: dict[str, float] = {}
        self._stats: dict[str, dict[str, str]] = {}
        self._was_connected: bool | None = None
        self._refusal = ""
        self._others_seen: dict[str, int] = {}
        self._is_rotating = False
        self._mesh: MeshAddress | None = None
        self._wake = trio.Event()

    async def run(
        self, port: int, mesh: MeshAddress | None, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Follow the agent until cancelled. `port` is the agent's affair; the address given is that of its RPC."""
        del port
        self._mesh = mesh
        self._is_running = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_time)
            nursery.start_soon(self._follow)
            with trio.move_on_after(FIRST_LIST_S):
                while not (self.cluster.is_connected or self._refusal):  # noqa: ASYNC110 - it has a deadline
                    await trio.sleep(0.05)
            nursery.start_soon(self._keep_up)
            nursery.start_soon(self._measure)
            task_status.started(self._agent)

    async def _follow(self) -> None:
        """Let the agent's list come, whatever the agent says meanwhile."""
        while True:
            try:
                await self.cluster.run()
            except ForbiddenError as error:
                self._refusal = f"the Serf agent at {self._agent} refuses gossip.agent.key: {error.message}"
            else:
                self._refusal = f"the Serf agent at {self._agent} has left its cluster"
            self._note_absence()
            await trio.sleep(REFUSED_RETRY_S)
            self._refusal = ""

    # ------------------------------------------------------------------------ upkeep

    async def _keep_up(self) -> None:
        while True:
            if self.cluster.is_connected:
                if self._was_connected is not True:
                    self._was_connected = True
                    self._refusal = ""
                    self._chronicle.agent_found(self._agent)
                await self._keep_tags()
            else:
                self._note_absence()
            await trio.sleep(UPKEEP_S)

    def _note_absence(self) -> None:
        if self._was_connected is not False:
            self._was_connected = False
            self._chronicle.agent_lost(self._problem())

    def _problem(self) -> str:
        if self.cluster.is_connected:
            return ""
        return self._refusal or f"the Serf agent at {self._agent} cannot be asked: {self.cluster.absence}"

    async def _keep_tags(self) -> None:
        """Put our tags on the agent when they are not there."""
        own = self._own_member()
        if own is None:
            return
        wanted = own_tags(
            name=self._identity.name,
            cluster=self._identity.cluster,
            zone=self._zone,
            mesh=self._mesh,
            at=own.address.host,
        ) | {ID_TAG: str(self._identity.node)}
        if {tag: own.tags[tag] for tag in OWN_TAGS if tag in own.tags} == wanted:
            return
        other = own.tags.get(ID_TAG)
        if other is not None and other != self._identity.node:
            self._others_seen[other] = self._others_seen.get(other, 0) + 1
            if self._others_seen[other] == 2:  # once is what an earlier node left behind
                self._chronicle.agent_shared(self._agent, other)
        try:
            await self.cluster.change_tags(wanted, [tag for tag in OWN_TAGS if tag in own.tags and tag not in wanted])
        except OrcaError as error:
            _log.warning("the agent does not take our tags", reason=error.message)

    def _own_member(self) -> Member | None:
        return next((member for member in self.cluster.members() if member.node == self.cluster.node), None)

    async def _measure(self) -> None:
        """Ask the agent now and then what it does not tell by itself."""
        while True:
            if self.cluster.is_connected:
                try:
                    self._stats = {section: dict(values) for section, values in (await self.cluster.stats()).items()}
                    await self._measure_distances()
                except OrcaError as error:
                    _log.debug("the agent could not be asked", reason=error.message)
            await trio.sleep(DISTANCES_S)

    async def _measure_distances(self) -> None:
        own = await self.cluster.coordinate(self.cluster.node)
        living = [member.node for member in self.cluster.members() if member.status in _HERE]
        for node in living[:DISTANCES_MAX] if own is not None else []:
            place = await self.cluster.coordinate(node)
            if own is not None and place is not None:
                self._distances[node] = distance_s(own, place)
        self._distances = {node: self._distances[node] for node in living if node in self._distances}

    # -------------------------------------------------------------------------- news

    def _take(self, news: MembershipNews) -> None:
        """What the agent tells; returns at once."""
        self._sinks.take_news(news)
        if isinstance(news, MembersChanged):
            for member in news.members:
                self._on_change(news.change, member)

    def _on_change(self, change: StatusChange, member: Member) -> None:
        now = self._clock.now()
        if change is StatusChange.REAPED:
            self._since.pop(member.node, None)
        elif change is not StatusChange.UPDATED:
            self._since[member.node] = now
        node = node_of(member)
        if node is None or node == self._identity.node:
            return
        is_ours = member.tags.get(CLUSTER_TAG) == self._identity.cluster and mesh_of(member) is not None
        if is_ours and member.status in _HERE and change is not StatusChange.REAPED:
            self.tell(PeerAppeared(node=str(node), address=member.address))
        elif not any(node_of(other) == node and other.status in _HERE for other in self.cluster.members()):
            self.tell(PeerDeparted(node=str(node)))

    # ------------------------------------------------------------------------- facts

    def tell(self, event: FactsEvent) -> None:
        """Step the machine of facts; returns at once."""
        for effect in self.facts.step(event, self._clock.now()):
            self._sinks.publish(effect)
        self._wake.set()

    async def _keep_time(self) -> None:
        while True:
            self._wake = trio.Event()
            wait_s = max(0.0, self.facts.deadline() - self._clock.now())
            with trio.move_on_after(wait_s if wait_s < math.inf else math.inf) as scope:
                await self._wake.wait()
            if scope.cancelled_caught:
                self.tell(Tick())

    # ------------------------------------------------------------------------- reads

    @property
    def is_running(self) -> bool:
        """Whether it can be asked."""
        return self._is_running

    @property
    def health_score(self) -> int:
        """The agent's."""
        return _number(self._stats.get("serf", {}).get("health_score", ""))

    def views(self) -> list[MemberView]:
        """All members as the agent told them last."""
        now = self._clock.now()
        told_at = Instant(now - self.cluster.list_age_s())
        return [
            told_view(
                member,
                observer=self.cluster.node,
                since=self._since.get(member.node, now),
                told_at=told_at,
                rtt_s=self._distances.get(member.node),
                now=now,
            )
            for member in self.cluster.members()
        ]

    def status(self) -> GossipStatus:
        """How the agent is doing, as it said some seconds ago."""
        own = self._own_member()
        serf = self._stats.get("serf", {})
        return GossipStatus(
            address="" if own is None else str(own.address),
            profile="of the agent",
            is_encrypted=serf.get("encrypted") == "true",
            counts={name: int(value) for name, value in sorted(serf.items()) if value.isdecimal()},
            drops={f"facts_{cause}": count for cause, count in self.facts.drops.items()},
            queues={name: _number(serf.get(f"{name}_queue", "")) for name in ("intent", "event", "query")},
            agent=str(self._agent),
            problem=self._problem(),
        )

    # ------------------------------------------------------------------------ orders

    def leave(self) -> None:
        """Nothing: the agent stays in its own cluster, and who belongs to ours is told by the log."""

    async def rotate(self, key: bytes, *, allow_absent: bool) -> tuple[Sequence[KeyReport], RotationEnded | None]:
        """Replace the keys of all agents, step by step as our own gossip does.

        Raises ConflictError while another rotation runs, InvalidRequestError when members are absent
        or the agents do not seal, NotAvailableError without an agent.
        """
        if self._is_rotating:
            raise ConflictError("a rotation of the gossip keys runs already on this node")
        absent = self._absent()
        if absent and not allow_absent:
            raise InvalidRequestError(
                f"{', '.join(absent)} failed and would not understand the cluster after a key rotation",
                hint="wait for them, remove them with `serf force-leave`, or allow it",
            )
        self._is_rotating = True
        try:
            with trio.move_on_after(ROTATION_S):
                return await self._rotate(Rotation(key), allow_absent=allow_absent)
        finally:
            self._is_rotating = False
        return (), None

    async def _rotate(
        self, rotation: Rotation, *, allow_absent: bool
    ) -> tuple[Sequence[KeyReport], RotationEnded | None]:
        reports: list[KeyReport] = []
        order = rotation.order()
        while True:
            step, attempt = rotation.step, rotation.attempt
            report = _with_silent(await self.cluster.change_keys(order.operation, order.key))
            reports.append(key_report(report, attempt, step.value))
            move = rotation.after(report, () if allow_absent else self._absent())
            if isinstance(move, RotationEnded):
                return reports, move
            order = move

    def _absent(self) -> list[str]:
        return [member.node for member in self.cluster.members() if member.status is MemberStatus.FAILED]


def _with_silent(report: MembersKeyReport) -> MembersKeyReport:
    """An agent only counts who did not answer."""
    missing = report.expected - report.answered
    if missing <= 0 or report.silent:
        return report
    return msgspec.structs.replace(report, silent=(f"{missing} of {report.expected} members",))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
