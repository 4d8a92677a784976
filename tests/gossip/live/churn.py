"""Members that come, go, die and return for a while, and a judge of what each saw of the others.

One thing happens at a time, while a talker sends user events all along. Whoever is killed is either found by
everybody else or back before that; whoever leaves is seen to leave; the key of the cluster changes while all are
there. At the end all come back and it becomes quiet.
"""

import itertools
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from simulations.bench.gossip_members import Sight
from tests.gossip.live.slots import OwnSlot, RealSlot, Sighting, Slot

LOG = logging.getLogger(__name__)
FOUND_S = 45.0
"""`local` gives a suspect at most 18 s, and a turn to be probed comes every few seconds; slow machines get the rest."""
LEFT_S = 30.0
SETTLED_S = 75.0
"""A member that was believed dead is dialled again at least every 30 s."""
HEARD_S = 90.0
"""Serf's `local` profile sends each broadcast twice, and leaves who missed it to the push/pull that each member begins
every 15 s with one other, who may have missed it, too. After three turns one of some thousands is still without, after
six nobody."""
AT_HOME_S = 5.0
"""Who joined so long ago, and stays for so long, takes part in what is said."""
TALK_S = 1.0


@dataclass(frozen=True)
class Said:
    """A user event."""

    at: float
    speaker: Slot
    name: str


class Churn:
    """Six members and what happens to them; every wait raises AssertionError when it is too long."""

    def __init__(self, nursery: trio.Nursery, rng: random.Random) -> None:
        self.sightings: list[Sighting] = []
        self.counts: Counter[str] = Counter()
        self._rng = rng
        self._nursery = nursery
        self._key = rng.randbytes(32)
        self._said: list[Said] = []
        kinds: Sequence[type[Slot]] = (RealSlot, OwnSlot)
        self._slots = [
            kind(f"{name}{number}", nursery, self.sightings.append)
            for number in range(3)
            for kind, name in zip(kinds, ("real", "ours"), strict=True)
        ]

    async def run(self, seconds: float) -> None:
        """All of it: start, churn, quiet, judgement."""
        first, *others = self._slots
        await first.start(self._key, None)
        for slot in others:
            await slot.start(self._key, first)
        await self._settle()
        with trio.CancelScope() as talking:
            self._nursery.start_soon(self._talk, talking)
            actions = self._actions()
            end = trio.current_time() + seconds
            for turn in itertools.count():
                if trio.current_time() >= end:
                    break
                # Each once at first, so that a short run has them all.
                action = actions[turn] if turn < len(actions) else self._rng.choice(actions)
                LOG.info("%s", action.__name__.strip("_").replace("_", " "))
                self.counts[action.__name__.strip("_")] += 1
                await action()
        talking.cancel()
        await self._settle()
        self._check_deaths()
        await self._check_keys()
        await self._check_events()

    def _actions(self) -> list[Callable[[], Awaitable[None]]]:
        return [self._die_and_return_at_once, self._leave_and_return, self._rotate, self._die, self._die_together]

    # ------------------------------------------------------------------------ what happens

    async def _die(self) -> None:
        """One is killed, found by all, and comes back."""
        victim = self._rng.choice(self._slots)
        await self._end_and_be_seen([victim], "failed", FOUND_S)

    async def _die_together(self) -> None:
        """One of each kind is killed at the same moment."""
        victims = [self._rng.choice(self._slots[kind::2]) for kind in range(2)]
        await self._end_and_be_seen(victims, "failed", FOUND_S)

    async def _leave_and_return(self) -> None:
        await self._end_and_be_seen([self._rng.choice(self._slots)], "left", LEFT_S)

    async def _die_and_return_at_once(self) -> None:
        """A crash that is over before it is found: nobody need have seen it."""
        victim = self._rng.choice(self._slots)
        await victim.kill()
        await trio.sleep(self._rng.uniform(0.0, 1.0))
        await self._return([victim])

    async def _rotate(self) -> None:
        """A new key, by our own machine or by the real command; all have to be there, or they would be locked out."""
        await self._settle()
        new = self._rng.randbytes(32)
        await self._rng.choice(self._slots).rotate(self._key, new)
        self._key = new

    async def _end_and_be_seen(self, victims: Sequence[Slot], sight: str, within_s: float) -> None:
        await self._settle()  # whom nobody knows to live, nobody sees die
        began = trio.current_time()
        for victim in victims:
            await (victim.leave() if sight == "left" else victim.kill())
        owed = [(slot, victim) for victim in victims for slot in self._slots if slot.is_up]
        await self._until(
            lambda: [
                f"{slot.name} of {victim.name}"
                for slot, victim in owed
                if not self._has_seen_end(slot, sight, victim.name, began)
            ],
            f"{sight} is seen",
            within_s,
        )
        took_s = trio.current_time() - began
        LOG.info("%s: %s, seen by all after %.1f s", sight, ", ".join(victim.name for victim in victims), took_s)
        await trio.sleep(self._rng.uniform(0.0, 2.0))
        await self._return(victims)

    async def _return(self, victims: Sequence[Slot]) -> None:
        for victim in victims:
            await victim.start(self._key, self._rng.choice([slot for slot in self._slots if slot.is_up]))

    async def _talk(self, until: trio.CancelScope) -> None:
        """Somebody says something every second."""
        for number in itertools.count():
            if until.cancel_called:
                return
            speaker = self._rng.choice([slot for slot in self._slots if slot.is_up])
            said = Said(trio.current_time(), speaker, f"word-{number}")
            try:
                await speaker.send(said.name)
            except (AssertionError, OSError):
                if speaker.was_up(said.at, trio.current_time()):
                    raise
                self.counts["events cut short by a death"] += 1
            else:
                self._said.append(said)
            await trio.sleep(self._rng.uniform(0.5 * TALK_S, 1.5 * TALK_S))

    # ------------------------------------------------------------------------ what is owed

    def _has_seen_end(self, observer: Slot, sight: str, who: str, since: float) -> bool:
        """An agent that missed the intent to leave, which Serf's `local` profile lets happen, calls it a failure."""
        words = {sight, "failed"} if isinstance(observer, RealSlot) else {sight}
        return any(self._has_seen(observer, (word, who), since) for word in words)

    def _has_seen(self, observer: Slot, sight: Sight, since: float) -> bool:
        return any(one.at >= since and (one.observer, one.sight) == (observer.name, sight) for one in self.sightings)

    async def _settle(self) -> None:
        """All are there, and all see that."""
        await self._until_async(self._differences, "all see all alive", SETTLED_S)

    async def _differences(self) -> list[str]:
        expected = dict.fromkeys((slot.name for slot in self._slots), "alive")
        views = [(slot.name, await slot.statuses()) for slot in self._slots]
        return [f"{name} sees {view}" for name, view in views if view != expected]

    async def _check_events(self) -> None:
        """An event is heard by whoever was there all the time that it may take."""
        with trio.move_on_after(HEARD_S):
            while self._unheard():  # noqa: ASYNC110 - what is seen is only recorded
                await trio.sleep(0.2)
        unheard = self._unheard()
        self.counts["events"] = len(self._said)
        assert not unheard, f"unheard: {'; '.join(unheard)}"
        heard = Counter((one.observer, one.sight) for one in self.sightings if one.sight[0] == "event")
        for slot in self._slots:
            if len(slot.lives) == 1:
                twice = [sight[1] for (observer, sight), count in heard.items() if observer == slot.name and count > 1]
                assert not twice, f"{slot.name} heard twice: {twice}"

    def _unheard(self) -> list[str]:
        now = trio.current_time()
        heard = {(one.observer, one.sight[1]) for one in self.sightings if one.sight[0] == "event"}
        return [
            f"{said.name} of {said.speaker.name} by {slot.name}"
            for said in self._said
            if said.speaker.was_up(said.at - AT_HOME_S, said.at + AT_HOME_S)
            for slot in self._slots
            if slot.was_up(said.at - AT_HOME_S, min(now, said.at + HEARD_S)) and (slot.name, said.name) not in heard
        ]

    def _check_deaths(self) -> None:
        """Nobody is called failed who was alive all the time in which that could have come up."""
        by_name = {slot.name: slot for slot in self._slots}
        deaths = [one for one in self.sightings if one.sight[0] == "failed"]
        false = [one for one in deaths if by_name[one.sight[1]].was_up(one.at - FOUND_S, one.at)]
        assert not false, f"{len(false)} of {len(deaths)} deaths are false: {false}"
        self.counts["sightings of deaths"] = len(deaths)

    async def _check_keys(self) -> None:
        for slot in self._slots:
            keys = await slot.keys()
            assert len(keys) == 1, f"{slot.name} has {len(keys)} keys"

    async def _until(self, missing: Callable[[], list[str]], what: str, within_s: float) -> None:
        async def look() -> list[str]:
            return missing()

        await self._until_async(look, what, within_s)

    async def _until_async(self, missing: Callable[[], Awaitable[list[str]]], what: str, within_s: float) -> None:
        """Returns when nothing is missing any more."""
        left: list[str] = []
        with trio.move_on_after(within_s):
            while left := await missing():  # noqa: ASYNC110 - asks other processes, which do not call
                await trio.sleep(0.2)
            return
        raise AssertionError(f"not within {within_s:g} s: {what}: {'; '.join(left)}")
