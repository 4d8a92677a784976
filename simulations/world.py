"""One virtual world: time, chance and the order of events, all from one seed.

Everything that happens is an action in one queue, ordered by (time, sequence): two actions
at the same instant run in the order in which they were asked for, so nothing depends on a
hash or on an address. Chance comes in streams: each part of the world draws from a stream of
its own, named after it, so a part that draws once more does not shift what all others draw.
"""

import hashlib
import heapq
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from orca.model.units import Instant

T = TypeVar("T")


class Chance(random.Random):
    """A stream of chance; it is an `Rng`, too."""

    def happens(self, probability: float) -> bool:
        """True with `probability`; draws nothing for 0, so that a fault that is off changes nothing."""
        return probability > 0 and self.random() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of `items`, which has at least one."""
        return items[int(self.random() * len(items))]

    def between(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        return least + int(self.random() * (most - least + 1))

    def pause_s(self, mean_s: float) -> float:
        """Seconds until the next of events that come `mean_s` apart on average, without memory."""
        return self.expovariate(1 / mean_s)


class Timer:
    """Something that will happen at `when`, unless it is cancelled."""

    __slots__ = ("_action", "_is_cancelled", "when")

    def __init__(self, when: Instant, action: Callable[[], None]) -> None:
        self.when = when
        self._action = action
        self._is_cancelled = False

    def cancel(self) -> None:
        """It will not happen; no harm after it has."""
        self._is_cancelled = True

    def ring(self) -> None:
        """It happens."""
        if not self._is_cancelled:
            self._action()


class World:
    """The queue, the clock and the trace of one run.

    `trace` gets a line for each thing that is noted. With it or without it the digest is the same.
    """

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.now = Instant(0.0)
        self.actions = 0
        self._trace = trace
        self._queue: list[tuple[float, int, Timer]] = []
        self._sequence = 0
        self._moments = 0
        self._digest = hashlib.blake2b(digest_size=16)

    def chance(self, name: str) -> Chance:
        """The stream of chance called `name`; the same one for the same seed and name, always."""
        return Chance(f"{self.seed}/{name}")

    def moment(self) -> int:
        """A number that is larger than all given out before: what happened first has the smaller one."""
        self._moments += 1
        return self._moments

    def at(self, when: float, action: Callable[[], None]) -> Timer:
        """Do `action` at `when`, or now when that has passed."""
        timer = Timer(Instant(max(when, self.now)), action)
        self._sequence += 1
        heapq.heappush(self._queue, (timer.when, self._sequence, timer))
        return timer

    def after(self, pause_s: float, action: Callable[[], None]) -> Timer:
        """Do `action` when `pause_s` have gone by."""
        return self.at(self.now + pause_s, action)

    def run(self, until: float, is_over: Callable[[], bool] | None = None) -> None:
        """Let time go by up to `until`, or up to the action after which `is_over`."""
        while self._queue and self._queue[0][0] <= until:
            when, _, timer = heapq.heappop(self._queue)
            self.now = Instant(when)
            self.actions += 1
            timer.ring()
            if is_over is not None and is_over():
                return
        self.now = Instant(max(self.now, until))

    def note(self, what: str, payload: bytes = b"", show: Callable[[], str] | None = None) -> None:
        """Put `what` and `payload` into the trace; `show` says in words what the payload is."""
        line = f"{self.now:.6f} {what}"
        self._digest.update(line.encode())
        if payload:
            self._digest.update(payload)
        if self._trace is not None:
            self._trace(line if show is None else f"{line} {show()}")

    def digest(self) -> str:
        """What was noted so far, in 32 hex digits."""
        return self._digest.hexdigest()
