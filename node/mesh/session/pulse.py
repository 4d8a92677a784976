"""Whether the peer is there still, and how long it takes to answer."""

from node.mesh.session.limits import Limits
from orca.model.units import Instant

_MEASURED_TIMES = 6
"""A peer that is heard all the time is pinged all the same, so many times less often, to know the round trip."""


class Pulse:
    """Times of one session. The bytes of a ping count up, so that an old answer is none."""

    def __init__(self, limits: Limits, now: Instant) -> None:
        self.round_trip_s: float | None = None
        self._limits = limits
        self._began_at = self._heard_at = self._measured_at = now
        self._ping_at: Instant | None = None
        self._pings = 0

    def heard(self, now: Instant) -> None:
        """Anything came."""
        self._heard_at = now

    def ping(self, now: Instant) -> bytes:
        """The payload of a ping to send; b"" while one is under way."""
        if self._ping_at is not None:
            return b""
        self._pings += 1
        self._ping_at = now
        return self._pings.to_bytes(8, "big")

    def answered(self, payload: bytes, now: Instant) -> float | None:
        """The round trip in seconds; None for an answer to nothing that is under way."""
        if self._ping_at is None or payload != self._pings.to_bytes(8, "big"):
            return None
        seconds = now - self._ping_at
        known = self.round_trip_s
        self.round_trip_s = seconds if known is None else (3 * known + seconds) / 4
        self._ping_at, self._measured_at = None, now
        return seconds

    def hello_deadline(self) -> Instant:
        """When the peer must have greeted."""
        return Instant(self._began_at + self._limits.hello_s)

    def ping_deadline(self) -> Instant | None:
        """When to ping; None while a ping is under way."""
        if self._ping_at is not None:
            return None
        interval_s = self._limits.ping_interval_s
        return Instant(min(self._heard_at + interval_s, self._measured_at + _MEASURED_TIMES * interval_s))

    def death_deadline(self) -> Instant | None:
        """When the peer is given up; None while no ping is under way."""
        if self._ping_at is None:
            return None
        silent_since = max(self._heard_at, self._ping_at)
        return Instant(silent_since + self._limits.silence_s - self._limits.ping_interval_s)
