"""The machine: dispatch of events and timers to the parts, gossip ticks, leaving."""

from collections.abc import Iterator
from typing import assert_never

from gossip.codec.packets import PACKET_BYTES_MAX
from gossip.events import StallNoticed, StreamFailed, StreamReceived, StreamReplied, Tick
from gossip.messages import Ack, Address, Alive, Dead, IndirectPing, Nack, Ping, Suspect, User
from gossip.swim.claims import Claims
from gossip.swim.config import SwimConfig
from gossip.swim.core import Core
from gossip.swim.delegate import Delegate
from gossip.swim.effects import LeaveEnded, SwimEffect
from gossip.swim.events import JoinRequested, LeaveRequested, MetaChanged, PacketReceived, SwimEvent, UserSent
from gossip.swim.exchange import Exchanges
from gossip.swim.members import Member, MemberState, MemberView
from gossip.swim.probing import Probing
from orca.model.units import Instant
from orca.sources import Rng


class Swim:
    """One member; see the package docstring for the rules.

    `incarnation`: start above the one of the life before, when it is known. `codec_overhead_bytes`:
    what label and seal add to a packet. Until the first step nothing is sent.
    """

    def __init__(  # noqa: PLR0913 - what a member is made of
        self,
        config: SwimConfig,
        node: str,
        address: Address,
        rng: Rng,
        delegate: Delegate,
        now: Instant,
        *,
        incarnation: int = 1,
        codec_overhead_bytes: int = 0,
    ) -> None:
        assert incarnation >= 1, "incarnation 0 is what others give to those they have not heard of"
        assert codec_overhead_bytes < PACKET_BYTES_MAX // 2, "label and seal leave no room"
        self._core = Core(
            config,
            node,
            address,
            rng,
            delegate,
            incarnation=incarnation,
            codec_overhead_bytes=codec_overhead_bytes,
        )
        self._claims = Claims(self._core)
        self._probing = Probing(self._core, self._claims)
        self._exchanges = Exchanges(self._core, self._claims)
        self._has_left = False
        self._claims.begin(now)
        self._probing.begin(now)
        self._exchanges.begin(now)
        self._gossip_at = now

    # ---------------------------------------------------------------------------- reads

    @property
    def node(self) -> str:
        """Our name."""
        return self._core.node

    @property
    def incarnation(self) -> int:
        """Of our claim to be alive; the next life should begin above it."""
        return self._core.incarnation

    @property
    def awareness_score(self) -> int:
        """How slow we take ourselves to be; 0 is well."""
        return self._core.awareness.score

    @property
    def counts(self) -> dict[str, int]:
        """Counters since the start, by name; our incarnation, and the sizes of queues as they are now."""
        core = self._core
        sizes = {
            "incarnation": core.incarnation,
            "members": len(core.members),
            "claims_queued": core.queued_claims,
            "suspects": self._claims.suspicions,
        }
        return {**core.counts, **sizes}

    def __len__(self) -> int:
        return len(self._core.members)

    def members(self) -> Iterator[MemberView]:
        """All members that are remembered, ourselves included, in no order."""
        return (member.view() for member in self._core.members)

    def member(self, node: str) -> MemberView | None:
        """The member called `node`."""
        found = self._core.members.get(node)
        return None if found is None else found.view()

    def deadline(self) -> Instant:
        """When the machine next wants a Tick."""
        due = self._core.timers.deadline()
        return min(due, self._gossip_at) if self._wants_gossip() else due

    # ---------------------------------------------------------------------------- steps

    def step(self, event: SwimEvent, now: Instant) -> list[SwimEffect]:
        """What to do about `event`, in order."""
        match event:
            case Tick():
                self._on_tick(now)
            case PacketReceived(source=source, messages=messages):
                for message in messages:
                    self._on_message(message, source, now)
            case StreamReceived(stream=stream, source=source, message=message):
                self._exchanges.on_stream(stream, source, message, now)
            case StreamReplied(exchange=exchange, message=message):
                if not self._probing.on_stream_reply(exchange, message):
                    self._exchanges.on_reply(exchange, message, now)
            case StreamFailed(exchange=exchange, reason=reason):
                self._exchanges.on_failure(exchange, reason, now)
            case JoinRequested(handle=handle, addresses=addresses):
                self._exchanges.join(handle, addresses)
            case _:
                self._on_order(event, now)
        self._probing.resume(now)
        return self._core.drain()

    def _on_order(self, event: LeaveRequested | MetaChanged | UserSent | StallNoticed, now: Instant) -> None:
        match event:
            case LeaveRequested():
                self._leave(now)
            case MetaChanged():
                self._claims.announce(now)
            case UserSent(to=to, payload=payload):
                self._send_user(to, payload)
            case StallNoticed(stall_s=stall_s):
                self._on_stall(stall_s, now)
            case _:
                assert_never(event)

    def _on_message(
        self, message: Ping | IndirectPing | Ack | Nack | Alive | Suspect | Dead | User, source: Address, now: Instant
    ) -> None:
        match message:
            case Ping() | IndirectPing() | Ack() | Nack():
                self._probing.on_message(message, source, now)
            case Alive():
                self._claims.on_alive(message, now)
            case Suspect():
                self._claims.on_suspect(message, now)
            case Dead():
                self._claims.on_dead(message, now)
            case User():
                self._core.delegate.user_message(message.payload, source, now)
            case _:
                assert_never(message)

    def _on_tick(self, now: Instant) -> None:
        timers = self._core.timers
        while (key := timers.pop(now)) is not None:
            match key:
                case "probe":
                    self._probing.on_turn(now)
                case "probe_timeout":
                    self._probing.on_timeout(now)
                case "probe_end":
                    self._probing.on_end(now)
                case "push_pull":
                    self._exchanges.on_turn(now)
                case "extra_push_pull":
                    self._exchanges.on_extra_turn(now)
                case "leave":
                    self._end_leave()
                case ("suspicion", str(node)):
                    self._claims.on_suspicion_over(node, now)
                case ("relay", int(sequence)):
                    self._probing.on_relay_over(sequence)
                case _:
                    raise AssertionError(f"nobody set the timer {key!r}")
        if now >= self._gossip_at and self._wants_gossip():
            self._gossip(now)

    # -------------------------------------------------------------------------- gossip

    def _wants_gossip(self) -> bool:
        """Whether there is news, and somebody to tell it to."""
        return len(self._core.members) > 1 and self._core.has_news()

    def _gossip(self, now: Instant) -> None:
        """News to a few random members, among them those who died lately and may want to refute.

        No more often than once an interval, and only while there is news: the first that comes
        after a silence goes on at once, so that a claim crosses an idle cluster as fast as its
        packets do, and silence costs nothing.
        """
        core, config = self._core, self._core.config
        self._gossip_at = Instant(now + config.gossip_interval_s)

        def is_listening(member: Member) -> bool:
            if member.node == core.node:
                return False
            if member.is_up:
                return True
            return member.state is MemberState.DEAD and now - member.changed_at <= config.gossip_to_dead_s

        for member in core.members.sample(config.gossip_nodes, is_listening):
            if not core.send_news(member):
                return

    def _send_user(self, to: Address, payload: bytes) -> None:
        core = self._core
        message = User(payload=payload)
        if core.fits_packet(1 + len(payload)):
            core.send(to, (message,), with_news=False)
        else:
            core.open_stream(to, message, wants_reply=False)

    # --------------------------------------------------------------------- this node

    def _on_stall(self, stall_s: float, now: Instant) -> None:
        """Our loop stood still: we are the slow one, and what answers us may lie unread."""
        core = self._core
        core.counts["stalls"] += 1
        core.awareness.add(1)
        until = Instant(now + min(stall_s, core.config.probe_interval_s))
        self._probing.grant(until, now)
        self._claims.allow_refutations(until)

    def _leave(self, now: Instant) -> None:
        core = self._core
        if core.is_leaving:
            return
        core.is_leaving = True
        claim = Dead(incarnation=core.incarnation, node=core.node, accuser=core.node)
        self._claims.on_dead(claim, now)
        others = any(core.is_probe_target(member) for member in core.members)
        if not others:
            self._end_leave()
            return
        core.timers.set("leave", Instant(now + core.config.leave_timeout_s))
        core.broadcast(claim, self._end_leave)

    def _end_leave(self) -> None:
        """Said often enough, or not in time; whichever comes first."""
        if not self._has_left:
            self._has_left = True
            self._core.timers.cancel("leave")
            self._core.emit(LeaveEnded())

    def check_invariants(self) -> None:
        """What always holds between two steps."""
        self._claims.check_invariants()
        self._probing.check_invariants()
        self._exchanges.check_invariants()
        assert not self._core.effects, "effects are drained at the end of each step"
