"""Bugs in gossip: a part of the real machine with one rule broken.

A machine is made of its parts by name, so a bug gets in by taking the part's place in the module that makes it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

import msgspec

from gossip import machine as whole
from gossip.facts import Facts
from gossip.facts.frames import FactMessage, Summary
from gossip.messages import Alive, Suspect
from gossip.serf import membership as serf_membership
from gossip.serf.redial import Dial, Redialler
from gossip.swim import core as swim_core
from gossip.swim import machine as swim_machine
from gossip.swim.claims import Claims
from gossip.swim.members import Member, MemberTable
from gossip.swim.probing import Probing
from gossip.transmit_queue import TransmitQueue
from orca.model.units import Instant
from simulations.faults import Mood, calm
from simulations.members.knobs import KNOBS
from simulations.scenarios.gossip import GossipPlan


class NeverRefutes(Claims):
    """Hears that it is suspected, and says nothing."""

    def _refute(self, own: Member, accused: int, now: Instant) -> None:
        pass


class RefutesTooLow(Claims):
    """Refutes with the incarnation that was accused, which overrides nothing."""

    def _refute(self, own: Member, accused: int, now: Instant) -> None:
        self._core.broadcast(self._core.own_claim())


class NeverBuries(Claims):
    """Suspects, and never comes to a conclusion."""

    def on_suspicion_over(self, node: str, now: Instant) -> None:
        """Nobody refuted, and nothing follows."""


class BuriesAtOnce(Claims):
    """Takes a suspect for dead without waiting for its answer."""

    def on_suspect(self, claim: Suspect, now: Instant) -> None:
        """Not even for a moment."""
        super().on_suspect(claim, now)
        self.on_suspicion_over(claim.node, now)


class BelievesOldNews(Claims):
    """Takes a claim of life for newer than what it knows, whatever its incarnation."""

    def on_alive(self, claim: Alive, now: Instant) -> None:
        """Newer, surely."""
        member = self._core.members.get(claim.node)
        if member is not None and claim.node != self._core.node and claim.incarnation <= member.incarnation:
            member.incarnation = claim.incarnation - 1
        super().on_alive(claim, now)


class ProbesNobody(Probing):
    """Skips its turn."""

    def on_turn(self, now: Instant) -> None:
        """Next time."""
        self._core.timers.set("probe", Instant(now + self._core.config.probe_interval_s))


class ProbesTheFirst(MemberTable):
    """Probes the first of its list, again and again."""

    def next_to_probe(self, is_due: Any) -> tuple[Member | None, bool]:
        """The same as last time."""
        return next((member for member in self if is_due(member)), None), False


class ForgetsTheLost(Redialler):
    """Dials nobody who was lost."""

    def due(self, now: Instant, living: int) -> Dial | None:
        """Nobody."""
        super().due(now, living)
        return None


class SpreadsForEver(TransmitQueue):
    """Sends a claim without end."""

    def take(self, overhead_bytes: int, room_bytes: int, limit: int) -> list[bytes]:
        """Never often enough."""
        return super().take(overhead_bytes, room_bytes, 1 << 30)


class NeverReconciles(Facts):
    """Does not look for what pushes did not bring."""

    def _on_summary(self, summary: Summary, now: Instant) -> list[FactMessage]:
        return []


_PLACES: Final[tuple[tuple[type, ModuleType, str], ...]] = (
    (NeverRefutes, swim_machine, "Claims"),
    (RefutesTooLow, swim_machine, "Claims"),
    (NeverBuries, swim_machine, "Claims"),
    (BuriesAtOnce, swim_machine, "Claims"),
    (BelievesOldNews, swim_machine, "Claims"),
    (ProbesNobody, swim_machine, "Probing"),
    (ProbesTheFirst, swim_core, "MemberTable"),
    (ForgetsTheLost, serf_membership, "Redialler"),
    (SpreadsForEver, swim_core, "TransmitQueue"),
    (NeverReconciles, whole, "Facts"),
)


def _plan(name: str, members: int, mood: Mood) -> GossipPlan:
    return GossipPlan(name=name, members=members, profile="orca", is_sealed=False, chaos_s=40.0, mood=mood)


PLANS: Final = (
    GossipPlan(),
    _plan("stalls", 5, calm(KNOBS, stall=0.5, loss=0.05)),
    _plan("splits", 4, calm(KNOBS, long_partition=60.0, loss=0.1)),
    _plan("churn", 6, calm(KNOBS, crash=6.0, leave=15.0, join=20.0, loss=0.2)),
)
"""Each bug is hunted under all of these: whatever a seed draws, and three in which one part works hardest."""


class Bug(msgspec.Struct, frozen=True):
    """A part with a bug, and whose place it takes."""

    part: type
    module: ModuleType
    name: str


BUGS: Final = tuple(Bug(*place) for place in _PLACES)


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """Machines that are made meanwhile have the bug."""
    sound = getattr(bug.module, bug.name)
    setattr(bug.module, bug.name, bug.part)
    try:
        yield
    finally:
        setattr(bug.module, bug.name, sound)
