"""The leader's duty of keeping the group right, on trio."""

import math
from collections.abc import Callable, Mapping
from typing import Final

import structlog
import trio

from consensus.driver import ReplicaDriver
from consensus.raft import AddLearner, PeerProgress, Promote, Remove, epoch_number
from consensus.subgroup import Change, ChangeKind, Peer, Seat, SubgroupConfig, next_change, target_size
from node.bell import Bell
from node.group.peers import loads_of, make_peers, may_vote, seat_of
from node.membership.sighting import Sighting
from orca.errors import OrcaError
from orca.model.event import EventKind, Severity
from orca.model.ids import NodeId
from orca.model.node import NodeFacts
from orca.model.quorum_view import QuorumMember, QuorumReply, QuorumRole
from orca.model.units import Instant
from orca.model.view import Observation
from orca.sources import Clock

_log = structlog.get_logger("orca.group")
INTERVAL_S: Final = 1.0
SETTLED_S: Final = 10.0
"""Between looks at a group in which nobody is missing and nobody comes or goes: only time can give it work then, and
its times are ten times as long."""
CHANGE_DEADLINE_S: Final = 15.0
EXCUSED_S: Final = 10.0
"""A node that is about to leave says so every second; after so long without a word it is needed again."""
REASONS_MAX: Final = 256

Record = Callable[[EventKind, str, Severity], None]


class GroupKeeper:
    """Keeps the group as `consensus.subgroup` wants it while this node leads, and describes it always.

    `seen` gives the nodes of the cluster that gossip knows, `facts` what they say of themselves. `changed` is rung
    when the state, the group or the members of the gossip are others than they were.
    """

    def __init__(  # noqa: PLR0913 - what it looks at, and whom it tells
        self,
        node: NodeId,
        clock: Clock,
        replica: ReplicaDriver,
        *,
        seen: Callable[[], Mapping[NodeId, Sighting]],
        facts: Callable[[], Mapping[NodeId, NodeFacts]],
        record: Record,
        config: SubgroupConfig,
        changed: Bell,
    ) -> None:
        self._node = node
        self._clock = clock
        self._replica = replica
        self._seen = seen
        self._facts = facts
        self._record = record
        self._config = config
        self._changed = changed
        self._leads = False
        self._looks_since = clock.now()
        self._learners_since: dict[NodeId, Instant] = {}
        self._excused: dict[NodeId, Instant] = {}
        self._reasons: dict[NodeId, str] = {}
        self._last_change = ""

    async def run(self) -> None:
        """Look whenever something has changed, and once a second while the group is not as it should be."""
        while True:
            heard = self._changed.rings
            longest_s = await self._look()
            await trio.sleep(INTERVAL_S)  # many changes in a row are looked at together
            await self._changed.wait(heard, longest_s - INTERVAL_S)

    async def _look(self) -> float:
        """Do what is to be done; the seconds until time alone may give more to do."""
        led, self._leads = self._leads, self._replica.is_leader
        if not self._leads:
            return math.inf
        if not led:  # what the group looks like to it may be old yet
            self._looks_since = self._clock.now()
            self._learners_since.clear()
            return INTERVAL_S
        try:
            return SETTLED_S if await self._change_group() else INTERVAL_S
        except OrcaError as error:
            # Another leader, a change under way, no quorum: the next look decides anew.
            _log.info("the group could not be changed now", reason=error.message)
        return INTERVAL_S

    def excuse(self, node: NodeId) -> None:
        """`node` is about to leave: its seat goes to another, if it does so within `EXCUSED_S`."""
        self._excused[node] = self._clock.now()
        self._changed.ring()

    def _excused_now(self) -> frozenset[NodeId]:
        now = self._clock.now()
        self._excused = {node: since for node, since in self._excused.items() if now - since < EXCUSED_S}
        return frozenset(self._excused)

    async def _change_group(self) -> bool:
        """Make the change that is due, if any; whether the group is settled."""
        peers = self._peers()
        change = next_change(peers, self._node, self._config)
        if change is None:
            return not any(_is_on_its_way(peer) for peer in peers)
        match change.kind:
            case ChangeKind.ADD_LEARNER:
                await self._replica.change_group(AddLearner(node=change.node), deadline_s=CHANGE_DEADLINE_S)
                self._learners_since[change.node] = self._clock.now()
            case ChangeKind.PROMOTE:
                await self._replica.change_group(Promote(node=change.node), deadline_s=CHANGE_DEADLINE_S)
            case ChangeKind.REMOVE:
                await self._replica.change_group(Remove(node=change.node), deadline_s=CHANGE_DEADLINE_S)
            case ChangeKind.HAND_OVER:
                self._replica.hand_over(change.node)
        self._note(change)
        return False

    def _note(self, change: Change) -> None:
        name = self.name_of(change.node)
        words = {
            ChangeKind.ADD_LEARNER: f"{name} is to vote and gets the log",
            ChangeKind.PROMOTE: f"{name} votes",
            ChangeKind.REMOVE: f"{name} votes no more",
            ChangeKind.HAND_OVER: f"{name} is to lead",
        }[change.kind]
        self._last_change = f"{words}: {change.reason}"
        if len(self._reasons) >= REASONS_MAX:
            self._reasons.clear()
        self._reasons[change.node] = change.reason
        self._record(EventKind.GROUP_CHANGED, self._last_change, Severity.INFO)

    def _peers(self) -> list[Peer]:
        now = self._clock.now()
        return make_peers(
            self._replica.state.nodes,
            self._seen(),
            self._replica.raft.membership,
            self._progress(),
            own=self._node,
            unseen_for_s=now - self._looks_since,
            loads=loads_of(self._replica.state, self._facts()),
            learner_for_s={node: now - since for node, since in self._learners_since.items()},
            excused=self._excused_now(),
        )

    def _progress(self) -> dict[NodeId, PeerProgress]:
        return {one.node: one for one in self._replica.raft.progress()}

    # --------------------------------------------------------------------- for people

    def describe(self, observation: Observation) -> QuorumReply:
        """The group as this node knows it. Only a leader knows how far others are."""
        raft, seen, progress = self._replica.raft, self._seen(), self._progress()
        nodes = self._replica.state.nodes
        alive = sum(node == self._node or (node in seen and seen[node].is_alive) for node in raft.membership.voters)
        members = tuple(self._member(node, seen, progress) for node in sorted({*raft.membership.members, *nodes}))
        return QuorumReply(
            observation=observation,
            term=raft.term,
            epoch=epoch_number(raft.epoch),
            leader=raft.leader,
            commit_index=raft.commit_index,
            applied_index=self._replica.applied_index,
            wanted=target_size(sum(map(may_vote, nodes.values())), self._config.wanted),
            voters_alive=alive,
            has_quorum=bool(raft.membership.voters) and alive * 2 > len(raft.membership.voters),
            members=members,
            last_change=self._last_change,
        )

    def _member(
        self, node: NodeId, seen: Mapping[NodeId, Sighting], progress: Mapping[NodeId, PeerProgress]
    ) -> QuorumMember:
        raft = self._replica.raft
        one, sight = progress.get(node), seen.get(node)
        contact_s = None if one is None else self._clock.now() - one.contact_at
        is_own = node == self._node
        return QuorumMember(
            id=node,
            name=self.name_of(node),
            role=QuorumRole.LEADER if node == raft.leader else QuorumRole(seat_of(node, raft.membership).value),
            zone="" if sight is None else sight.zone,
            state=None if sight is None else sight.state,
            state_age_ms=None if sight is None else round(sight.state_age_s * 1000),
            index=raft.last_index if is_own else (None if one is None else one.match_index),
            lag=0 if is_own and raft.is_leader else (None if one is None else one.lag),
            contact_age_ms=None if contact_s is None else max(0, round(contact_s * 1000)),
            reason=self._reasons.get(node, ""),
        )

    def name_of(self, node: NodeId) -> str:
        """What people call `node`."""
        sight = self._seen().get(node)
        record = self._replica.state.nodes.get(node)
        if sight is not None:
            return sight.name
        return str(node) if record is None else record.name


def _is_on_its_way(peer: Peer) -> bool:
    """Whether time alone may soon make a change of its seat due."""
    return peer.seat is Seat.LEARNER or peer.is_leaving or (peer.seat is Seat.VOTER and not peer.is_alive)
