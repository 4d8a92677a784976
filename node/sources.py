"""The real sources of time, chance and ids; only the agent makes them."""

import base64
import os
import time

from orca.model.units import Instant, WallMs


class SystemClock:
    """The clocks of this computer."""

    def now(self) -> Instant:
        """Monotonic seconds."""
        return Instant(time.monotonic())

    def wall(self) -> WallMs:
        """Milliseconds since 1970 UTC."""
        return WallMs(time.time_ns() // 1_000_000)


class SystemIds:
    """Ids from the kernel's randomness."""

    def fresh(self) -> str:
        """Twelve lower-case base-32 characters (60 random bits)."""
        return base64.b32encode(os.urandom(8))[:12].decode().lower()


def boot_clock() -> Instant:
    """Seconds since this computer started, those that it slept through included: leases go on meanwhile."""
    return Instant(time.clock_gettime(time.CLOCK_BOOTTIME))
