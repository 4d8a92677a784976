"""Probes of ours and answers to those of others (WIRE.md §4.1, §4.2)."""

import math
from typing import Final

import msgspec

from gossip.effects import NoteLevel
from gossip.messages import Ack, Address, IndirectPing, Nack, PacketMessage, Ping, Suspect
from gossip.swim.claims import Claims
from gossip.swim.core import Core
from gossip.swim.members import Member, MemberState
from gossip.swim.timers import NEVER
from orca.model.units import Instant

NACK_PROTOCOL: Final = 4
RELAYS_MAX: Final = 1024
RTT_WEIGHT: Final = 0.2


class _Probe(msgspec.Struct):
    """The probe that is running. `nacks` are those still expected."""

    sequence: int
    node: str
    started_at: Instant
    ends_at: Instant
    nacks_expected: int = 0
    nacks: int = 0
    exchange: int | None = None
    is_reached_by_stream: bool = False
    asks_others: bool = False


class _Relay(msgspec.Struct, frozen=True):
    """A ping that we sent for somebody else."""

    requester: Address
    sequence: int
    wants_nack: bool


class Probing:
    """One probe at a time, and the relays of others."""

    def __init__(self, core: Core, claims: Claims) -> None:
        self._core = core
        self._claims = claims
        self._probe: _Probe | None = None
        self._turn_at = Instant(0.0)
        self._relays: dict[int, _Relay] = {}

    def begin(self, now: Instant) -> None:
        """Start within one interval, so that members that started together spread out."""
        interval_s = self._core.config.probe_interval_s
        self._core.timers.set("probe", Instant(now + self._core.rng.random() * interval_s))

    # -------------------------------------------------------------------- our probes

    def on_turn(self, now: Instant) -> None:
        """Probe the next member, unless a probe still runs: then as soon as it ends.

        Who is alone takes no turns until there is somebody: see `resume`.
        """
        core = self._core
        self._turn_at = now
        if len(core.members) < 2:
            return
        core.timers.set("probe", Instant(now + core.config.probe_interval_s))
        if self._probe is not None or core.is_leaving:
            return
        member, has_wrapped = core.members.next_to_probe(core.is_probe_target)
        if has_wrapped:
            self._forget_dead(now)
        if member is not None:
            self._start(member, now)

    def resume(self, now: Instant) -> None:
        """Take turns again if we are alone no more, in the rhythm of before."""
        core = self._core
        if len(core.members) > 1 and core.timers.at("probe") == NEVER:
            interval_s = core.config.probe_interval_s
            missed = math.floor((now - self._turn_at) / interval_s)
            core.timers.set("probe", Instant(self._turn_at + (missed + 1) * interval_s))

    def _start(self, member: Member, now: Instant) -> None:
        core, config = self._core, self._core.config
        ends_at = Instant(now + core.awareness.stretch(config.probe_interval_s))
        probe = _Probe(sequence=core.next_sequence(), node=member.node, started_at=now, ends_at=ends_at)
        self._probe = probe
        core.counts["probes"] += 1
        ping = self._ping(probe.sequence, member.node)
        if config.has_buddy_system and member.state is MemberState.SUSPECT:
            # The buddy system: whoever is suspected hears it first, and alone.
            suspect = Suspect(incarnation=member.incarnation, node=member.node, accuser=core.node)
            core.send_to(member, (ping, suspect), with_news=False)
        else:
            core.send(member.address, (ping,))
        core.timers.set("probe_timeout", Instant(now + config.probe_timeout_s))
        core.timers.set("probe_end", ends_at)

    def _ping(self, sequence: int, node: str) -> Ping:
        """A ping of ours, without our address: the answer goes to where the packet came from.

        That is the same for who binds the address that it advertises, the only right one behind
        a translation of addresses, and a third of the packet less.
        """
        return Ping(sequence=sequence, node=node, source_node=self._core.node)

    def on_timeout(self, now: Instant) -> None:
        """No direct answer yet: others ask, and a stream is tried."""
        core, probe = self._core, self._probe
        member = None if probe is None else core.members.get(probe.node)
        if probe is None or member is None:
            return
        core.counts["probes_indirect"] += 1
        probe.asks_others = True

        def may_help(other: Member) -> bool:
            return core.is_alive_other(other) and other.node != probe.node

        for helper in core.members.sample(core.config.indirect_checks, may_help):
            wants_nack = helper.protocol_max >= NACK_PROTOCOL
            probe.nacks_expected += wants_nack
            message = IndirectPing(
                sequence=probe.sequence,
                target=member.address,
                node=member.node,
                wants_nack=wants_nack,
                source=core.address,
                source_node=core.node,
            )
            core.send(helper.address, (message,))
        ping = self._ping(probe.sequence, member.node)
        probe.exchange = core.open_stream(member.address, ping, timeout_s=max(0.001, probe.ends_at - now))

    def on_end(self, now: Instant) -> None:
        """The probe's time is over."""
        core, probe = self._core, self._probe
        if probe is None:
            return
        self._clear()
        member = core.members.get(probe.node)
        if member is None or not member.is_up:
            return
        if probe.is_reached_by_stream:
            core.counts["reached_by_stream_only"] += 1
            core.note(
                f"{member.node} answers on a stream and not to datagrams; is UDP port {member.address.port} open?",
                NoteLevel.WARNING,
            )
        else:
            self._accuse(member, probe, now)
        self._catch_up(probe, now)

    def _accuse(self, member: Member, probe: _Probe, now: Instant) -> None:
        core = self._core
        missing = probe.nacks_expected - probe.nacks
        core.awareness.add(missing if probe.nacks_expected else 1)
        core.counts["probes_failed"] += 1
        self._claims.on_suspect(Suspect(incarnation=member.incarnation, node=member.node, accuser=core.node), now)

    def _catch_up(self, probe: _Probe, now: Instant) -> None:
        """A probe that took longer than its turn makes the next one due at once."""
        core = self._core
        due = Instant(probe.started_at + core.config.probe_interval_s)
        if core.timers.at("probe") > max(now, due):
            core.timers.set("probe", max(now, due))

    def _clear(self) -> None:
        self._probe = None
        self._core.timers.cancel("probe_timeout")
        self._core.timers.cancel("probe_end")

    def _forget_dead(self, now: Instant) -> None:
        core = self._core
        keep_s = core.config.gossip_to_dead_s
        gone = [
            member.node
            for member in core.members
            if not member.is_up and core.is_other(member) and now - member.changed_at > keep_s
        ]
        for node in gone:
            core.members.remove(node)
        core.counts["forgotten"] += len(gone)

    def grant(self, until: Instant, now: Instant) -> None:
        """Our loop stood still: the probe that ran meanwhile gets time to be answered."""
        probe, timers = self._probe, self._core.timers
        if probe is None:
            return
        probe.ends_at = max(probe.ends_at, until)
        timers.set("probe_end", probe.ends_at)
        if timers.at("probe_timeout") <= now:
            timers.set("probe_timeout", Instant(now + self._core.config.probe_timeout_s))

    # ----------------------------------------------------------------------- answers

    def on_message(self, message: PacketMessage, source: Address, now: Instant) -> None:
        """Pings, acks and nacks."""
        match message:
            case Ping():
                self._on_ping(message, source, now)
            case IndirectPing():
                self._on_indirect_ping(message, source, now)
            case Ack():
                self._on_ack(message, source, now)
            case Nack():
                self._core.counts["nacks_received"] += 1
                if self._probe is not None and self._probe.sequence == message.sequence:
                    self._probe.nacks = min(self._probe.nacks + 1, self._probe.nacks_expected)
            case _:
                raise AssertionError(f"{message} is no matter of probing")

    def _on_ping(self, ping: Ping, source: Address, now: Instant) -> None:
        core = self._core
        if ping.node and ping.node != core.node:
            core.counts["pings_misdirected"] += 1
            return
        if ping.source_node:
            core.heard(ping.source_node, source, now)
        core.counts["pings_answered"] += 1
        core.send(ping.source or source, (Ack(sequence=ping.sequence, payload=core.ack_payload()),))

    def _on_indirect_ping(self, request: IndirectPing, source: Address, now: Instant) -> None:
        core = self._core
        if len(self._relays) >= RELAYS_MAX or request.target.port == 0:
            core.counts["relays_refused"] += 1
            return
        sequence = core.next_sequence()
        relay = _Relay(request.source or source, request.sequence, request.wants_nack)
        self._relays[sequence] = relay
        core.timers.set(("relay", sequence), Instant(now + core.config.probe_timeout_s))
        ping = self._ping(sequence, request.node)
        core.send(request.target, (ping,))

    def on_relay_over(self, sequence: int) -> None:
        """Whom we pinged for somebody did not answer in time."""
        relay = self._relays.pop(sequence, None)
        if relay is not None and relay.wants_nack:
            self._core.send(relay.requester, (Nack(sequence=relay.sequence),))

    def _on_ack(self, ack: Ack, source: Address, now: Instant) -> None:
        core = self._core
        relay = self._relays.pop(ack.sequence, None)
        if relay is not None:
            core.timers.cancel(("relay", ack.sequence))
            core.send(relay.requester, (Ack(sequence=relay.sequence),))
            return
        probe = self._probe
        if probe is None or probe.sequence != ack.sequence:
            core.counts["acks_unexpected"] += 1
            return
        core.counts["acks"] += 1
        core.awareness.add(-1)
        self._clear()
        member = core.members.get(probe.node)
        # A host with several addresses may answer from another one; a helper answers only when it was asked.
        if member is not None and (member.address == source or not probe.asks_others):
            rtt_s = max(0.0, now - probe.started_at)
            member.heard_at = now
            member.rtt_s = rtt_s if member.rtt_s is None else member.rtt_s + RTT_WEIGHT * (rtt_s - member.rtt_s)
            core.delegate.acked(member.node, rtt_s, ack.payload, now)
        self._catch_up(probe, now)

    def on_stream_reply(self, exchange: int, message: object) -> bool:
        """The answer of a stream that a probe opened; False when none of ours."""
        probe = self._probe
        if probe is None or probe.exchange != exchange:
            return False
        if isinstance(message, Ack) and message.sequence == probe.sequence:
            probe.is_reached_by_stream = True
        return True

    def check_invariants(self) -> None:
        """Raise AssertionError when the tables do not fit each other."""
        timers = self._core.timers
        assert len(self._relays) <= RELAYS_MAX, "relays are bounded"
        for sequence in self._relays:
            assert timers.at(("relay", sequence)) < NEVER, f"relay {sequence} ends"
        assert (self._probe is None) or timers.at("probe_end") < NEVER, "a probe ends"
        assert len(self._core.members) < 2 or timers.at("probe") < NEVER, "who is not alone takes turns"
