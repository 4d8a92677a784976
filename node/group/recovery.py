"""Starting the group anew by hand, and giving up a log that another life of the group outranks."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import structlog
import trio

from consensus.driver import ReplicaDriver
from consensus.raft import epoch_number, next_epoch
from consensus.state.commands import BeginEpoch
from consensus.subgroup import Standing, objections
from node.mesh.driver import Mesh
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from orca.errors import ConflictError, NotAvailableError, OrcaError, PeerProtocolError, StoreFullError
from orca.model.event import EventKind, Severity
from orca.model.ids import NodeId, RequestId
from orca.sources import Clock, IdSource, Rng

_log = structlog.get_logger("orca.group")
STANDING_DEADLINE_S: Final = 3.0
LEADER_HEARD_S: Final = 5.0
"""Whoever was heard to lead within so long may lead still."""
LEAD_DEADLINE_S: Final = 15.0
RETRY_S: Final = 5.0
ANSWERS_MAX: Final = 16
"""So many nodes are asked at a time."""

Record = Callable[[EventKind, str, Severity], None]
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Standing] = msgspec.msgpack.Decoder(Standing)


class Recovery:
    """`alive` gives the nodes of the cluster that are believed to live, without this one.

    `set_aside` keeps a copy of the log in a file, empties the store and says where the copy is; it blocks, and
    raises StoreFullError with nothing done.
    """

    def __init__(  # noqa: PLR0913 - it asks the others, writes the log and tells people
        self,
        replica: ReplicaDriver,
        mesh: Mesh,
        clock: Clock,
        rng: Rng,
        ids: IdSource,
        *,
        alive: Callable[[], Iterable[NodeId]],
        set_aside: Callable[[], str],
        record: Record,
    ) -> None:
        self._replica = replica
        self._mesh = mesh
        self._clock = clock
        self._rng = rng
        self._ids = ids
        self._alive = alive
        self._set_aside = set_aside
        self._record = record
        self._outranked_by: int | None = None
        self._is_outranked = trio.Event()
        self._is_recovering = False

    # ------------------------------------------------------------------- to be asked

    async def serve(self, peer: NodeId, frames: FrameStream) -> None:
        """Say how far this node's log goes, and whom it hears."""
        await frames.send((_encoder.encode(self._standing()),))

    def _standing(self) -> Standing:
        raft = self._replica.raft
        position = raft.position
        heard_at = raft.leader_contact_at
        is_led = raft.leader is not None and heard_at is not None and self._clock.now() - heard_at < LEADER_HEARD_S
        return Standing(
            node=raft.node,
            epoch=position.epoch,
            last_term=position.last_term,
            last_index=position.last_index,
            leader=raft.leader if is_led else None,
        )

    # ------------------------------------------------------------------- starting anew

    async def recover(self, name_of: Callable[[NodeId], str], *, is_forced: bool) -> None:
        """Go on from this node's log as the only voter; returns when it leads.

        Raises ConflictError with all that speaks against it, and StoreFullError with nothing changed. `is_forced`
        overrides what is not final.
        """
        if self._is_recovering:
            raise ConflictError("the group is being started anew from this node already")
        self._is_recovering = True
        try:
            await self._check(name_of, is_forced=is_forced)
            raft = self._replica.raft
            epoch = next_epoch(raft.epoch, self._rng)
            voters = ", ".join(map(name_of, raft.membership.voters))
            await self._replica.start_anew(epoch)
            self._record(
                EventKind.GROUP_RECOVERED,
                f"the group was started anew from this node's log, epoch {epoch_number(epoch)}; before, {voters} voted",
                Severity.WARNING,
            )
            await self._begin_epoch(epoch_number(epoch))
        finally:
            self._is_recovering = False

    async def _check(self, name_of: Callable[[NodeId], str], *, is_forced: bool) -> None:
        alive = sorted(self._alive())
        answers = await self._ask(alive)
        against = objections(
            self._standing(),
            self._replica.raft.membership,
            alive,
            answers.values(),
            set(alive) - set(answers),
            name_of,
        )
        if any(one.is_final for one in against):
            raise ConflictError("the group is not started anew: " + "; ".join(one.message for one in against))
        if against and not is_forced:
            raise ConflictError(
                "the group is not started anew: "
                + "; ".join(one.message for one in against)
                + ". With force it is done all the same"
            )

    async def _ask(self, nodes: Iterable[NodeId]) -> dict[NodeId, Standing]:
        """What those say of themselves that answer in time."""
        answers: dict[NodeId, Standing] = {}
        limiter = trio.CapacityLimiter(ANSWERS_MAX)

        async def ask(node: NodeId) -> None:
            async with limiter:
                try:
                    async with self._mesh.connect(node, Purpose.STANDING) as frames:
                        standing = _decode_standing(await frames.receive(), node)
                except OrcaError as error:
                    _log.info("a node does not say how far its log goes", node=node, reason=error.message)
                    return
                answers[node] = standing

        with trio.move_on_after(STANDING_DEADLINE_S):
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(ask, node)
        return answers

    async def _begin_epoch(self, number: int) -> None:
        command = BeginEpoch(
            epoch=number, at_ms=self._clock.wall(), request_id=RequestId(self._ids.fresh()), actor="recovery"
        )
        with trio.move_on_after(LEAD_DEADLINE_S):
            while True:
                try:
                    outcome = await self._replica.propose(command, deadline_s=LEAD_DEADLINE_S)
                except StoreFullError:
                    raise
                except OrcaError as error:
                    _log.debug("the new life of the group has not begun yet", reason=error.message)
                    await trio.sleep(0.1)
                    continue
                if outcome.error:
                    _log.warning("the epoch could not be counted up", reason=outcome.message)
                return
        raise NotAvailableError(
            f"this node is the only voter of epoch {number} now, but does not lead after {LEAD_DEADLINE_S:g} s: "
            "see `orca quorum` and the node's log"
        )

    # ------------------------------------------------------------------- giving up

    def outranked(self, epoch: int) -> None:
        """The group was started anew without this node; returns at once."""
        self._outranked_by = epoch
        self._is_outranked.set()

    async def run(self) -> None:
        """Set this node's log aside whenever it is outranked, and follow the others, until cancelled."""
        while True:
            await self._is_outranked.wait()
            self._is_outranked = trio.Event()
            assert self._outranked_by is not None, "somebody outranks it"
            await self._give_up(self._outranked_by)

    async def _give_up(self, epoch: int) -> None:
        kept: list[str] = []

        def forget() -> None:
            if not kept:  # a second try after the store was emptied has nothing to keep
                kept.append(self._set_aside())

        is_done = False
        while not is_done:
            try:
                await self._replica.start_blank(forget, epoch)
                is_done = True
            except (StoreFullError, ConflictError) as error:
                _log.error("the log of this node's old group cannot be set aside", reason=error.message)
                await trio.sleep(RETRY_S)
        self._record(
            EventKind.GROUP_OUTRANKED,
            f"the group of voters was started anew without this node (epoch {epoch_number(epoch)}); what this node had "
            f"in its own log is kept in {kept[0]}, and it follows the others now",
            Severity.ERROR,
        )


def _decode_standing(payload: bytes, node: NodeId) -> Standing:
    try:
        standing = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PeerProtocolError(f"{node} says of its log what cannot be read: {error}") from error
    if standing.node != node:
        raise PeerProtocolError(f"{node} says that it is {standing.node}")
    return standing
