"""Seeds that once found something, with what it was. A bug fix begins with its seed here."""

from typing import Final

import msgspec

from simulations.faults import calm
from simulations.scenarios.plans import Plan


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """One old failure: a seed, and the plan that it failed with."""

    seed: int
    plan: Plan
    what: str


PINNED: Final[tuple[Pin, ...]] = (
    Pin(
        seed=320,
        plan=Plan(),
        what="a learner that was added while nobody wrote got nothing until somebody did",
    ),
    Pin(
        seed=432,
        plan=Plan(),
        what="the same, without a disk that fills up",
    ),
    Pin(
        seed=303,
        plan=Plan(),
        what="a learner that had everything was never taken for one that has caught up while nobody wrote",
    ),
    Pin(
        seed=2,
        plan=Plan(voters=3, learners=2, mood=calm(kill=2.0), chaos_s=20),
        what="the same two with nothing but voters that are killed for good",
    ),
)
