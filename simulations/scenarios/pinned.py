"""Seeds that once found something, with what it was. A bug fix begins with its seed here."""

from typing import Final

import msgspec

from simulations.faults import calm
from simulations.scenarios.plans import Plan
from simulations.scenarios.services import ServicesPlan


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


class ServicesPin(msgspec.Struct, frozen=True, kw_only=True):
    """An old failure of whole nodes."""

    seed: int
    plan: ServicesPlan = ServicesPlan()
    what: str


PINNED_SERVICES: Final[tuple[ServicesPin, ...]] = (
    ServicesPin(seed=11, what="a voter that campaigned took a leader from the feed whom it did not hear"),
    ServicesPin(
        seed=22,
        what="a copy that served stopped for its twin in one slot while the copy of another slot was lost",
    ),
    ServicesPin(
        seed=154,
        what="a node that was behind said goodbye to a copy that it had not heard of, and sent requests there later",
    ),
)
