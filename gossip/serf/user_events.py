"""User events: a few bytes for everybody, delivered once (WIRE §6.4)."""

from gossip.codec.serf_frames import encode_serf
from gossip.messages import PastEvent, PastEvents, UserEvent
from gossip.serf.clock import LamportClock
from gossip.serf.coalesce import EventCoalescer
from gossip.serf.config import SerfConfig
from gossip.serf.effects import UserEventReceived
from gossip.serf.history import Ring, Sight
from gossip.serf.outbox import Outbox
from orca.errors import InvalidRequestError
from orca.model.units import Instant

_NEVER = Instant(float("inf"))
HELD_MAX = 64
"""So many events wait for the answer to a join; further ones are judged as they come."""


class UserEvents:
    """The event clock and its ring."""

    def __init__(self, config: SerfConfig, outbox: Outbox) -> None:
        self.clock = LamportClock()
        self.ring = Ring(self.clock)
        self._config = config
        self._outbox = outbox
        self._is_holding = False
        self._held: list[tuple[UserEvent, bytes]] = []
        self._coalescer: EventCoalescer | None = None
        if config.event_coalesce_s > 0:
            self._coalescer = EventCoalescer(config.event_coalesce_s, config.event_quiet_s)

    def request(self, name: str, payload: bytes, now: Instant, *, is_coalescable: bool) -> None:
        """Tell everybody, ourselves included; InvalidRequestError when it is too large to travel."""
        limit = self._config.user_event_bytes_max
        event = UserEvent(ltime=self.clock.time, name=name, payload=payload, is_coalescable=is_coalescable)
        try:
            encoded = encode_serf(event)
        except UnicodeEncodeError as error:
            raise InvalidRequestError(f"event name {name!r} cannot be written as UTF-8") from error
        if len(encoded) > limit:
            raise InvalidRequestError(
                f"event {name!r} takes {len(encoded)} bytes encoded, {len(payload)} of them payload;"
                f" at most {limit} travel"
            )
        self.clock.stamp()
        self._take(event, encoded, now)

    def receive(self, event: UserEvent, encoded: bytes, now: Instant) -> None:
        """One came in as `encoded`: deliver it and pass it on unless it is known."""
        if self._is_holding and len(self._held) < HELD_MAX:
            self._held.append((event, encoded))
        else:
            self._take(event, encoded, now)

    def hold(self) -> None:
        """Keep what comes until it is known which events are old: a packet may be faster than the answer to a join."""
        self._is_holding = True

    def release(self, now: Instant) -> None:
        """What was held is judged now, in the order in which it came."""
        self._is_holding = False
        held, self._held = self._held, []
        for event, encoded in held:
            self._take(event, encoded, now)

    def _take(self, event: UserEvent, encoded: bytes, now: Instant) -> None:
        if self._deliver(event, now):
            self._outbox.events.put(None, encoded)

    def replay(self, past: tuple[PastEvents, ...], now: Instant) -> None:
        """Deliver what a peer remembers and we do not; not passed on, since everybody gets it like this."""
        for events in past:
            for event in events.events:
                self._deliver(UserEvent(ltime=events.ltime, name=event.name, payload=event.payload), now)

    def tick(self, now: Instant) -> None:
        """Deliver what was held back."""
        if self._coalescer is not None and self._coalescer.deadline() <= now:
            for event in self._coalescer.flush():
                self._outbox.emit(event)

    def deadline(self) -> Instant:
        """When `tick` has something to do."""
        return _NEVER if self._coalescer is None else self._coalescer.deadline()

    def _deliver(self, event: UserEvent, now: Instant) -> bool:
        if not self.clock.is_credible(event.ltime):
            self._outbox.drop("event_ltime")
            return False
        self.clock.witness(event.ltime)
        sight = self.ring.see(event.ltime, PastEvent(name=event.name, payload=event.payload))
        if sight is not Sight.NEW:
            self._outbox.drop(f"event_{sight.value}")
            return False
        received = UserEventReceived(
            ltime=event.ltime, name=event.name, payload=event.payload, is_coalescable=event.is_coalescable
        )
        if self._coalescer is not None and event.is_coalescable:
            self._coalescer.add(received, now)
        else:
            self._outbox.emit(received)
        return True
