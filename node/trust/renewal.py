"""When a node asks for its next certificate. Pure."""

import math
from typing import Final

import msgspec

from orca.model.units import WallMs

RENEW_AT: Final = 2 / 3
"""Of a certificate's life: a month is left then, for a cluster that cannot decide for a while."""
SPREAD: Final = 0.05
"""Of its life, by which nodes that joined together ask apart."""
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 3600.0
CLOCK_LOOK_S: Final = 60.0
"""A clock that was set may bring the time closer, so nobody sleeps longer."""


class Lifetime(msgspec.Struct, frozen=True, kw_only=True):
    """Of one certificate: from when, until when, and by whom."""

    not_before_ms: WallMs
    not_after_ms: WallMs
    authority: str


def renew_at_ms(life: Lifetime, chance: float) -> WallMs:
    """When to ask for the next one; `chance` (0 to 1) is drawn once for each certificate."""
    span_ms = life.not_after_ms - life.not_before_ms
    return WallMs(round(life.not_before_ms + span_ms * (RENEW_AT - SPREAD * chance)))


def due_at_ms(life: Lifetime, chance: float, signing: str, signs_from_ms: float) -> float:
    """When to ask: at its age, or at once when another authority signs (`signing`) than signed it.

    Not before `signs_from_ms`: from then on that authority is believed everywhere.
    """
    is_of_another = bool(signing) and life.authority != signing
    return max(signs_from_ms, 0 if is_of_another else renew_at_ms(life, chance))


def retry_s(failures: int, chance: float) -> float:
    """How long to wait after the n-th failure in a row (from 1), with jitter by `chance`."""
    longest = min(RETRY_MAX_S, RETRY_FIRST_S * math.pow(2, min(failures - 1, 20)))
    return longest * (0.5 + chance / 2)
