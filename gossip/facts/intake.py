"""What is let in: limits of size, of pace, and the count of what was not."""

from typing import Final

from gossip.facts.config import FactsConfig
from gossip.facts.frames import Delta
from gossip.facts.pace import TokenBucket
from gossip.facts.writer import WriterState
from orca.model.units import Instant

ASK_PAUSE_S: Final = 0.5
"""Pushes that do not connect come in swarms; one question a writer in that time closes the gap."""
RAISES_PER_S: Final = 1.0
RAISES_BURST: Final = 5


class Intake:
    """Guards the store; knows nothing of what facts mean."""

    def __init__(self, config: FactsConfig, now: Instant) -> None:
        self._config = config
        self._reading: dict[str, TokenBucket] = {}
        self._accepting: dict[str, TokenBucket] = {}
        self._refused_until: dict[str, Instant] = {}
        self._asked_at: dict[str, Instant] = {}
        self._raising = TokenBucket(RAISES_PER_S, RAISES_BURST, now)
        self.drops: dict[str, int] = {}

    def drop(self, cause: str) -> None:
        """Count something that was not taken in."""
        self.drops[cause] = self.drops.get(cause, 0) + 1

    def may_read(self, peer: str, now: Instant) -> bool:
        """Whether another frame of that peer is read now."""
        bucket = self._reading.get(peer)
        if bucket is None:
            bucket = self._reading[peer] = TokenBucket(self._config.frames_per_s, self._config.frames_burst, now)
        return bucket.take(1, now)

    def may_ask(self, writer: str, now: Instant) -> bool:
        """Whether to ask for what is missing of a writer, rather than to wait for the last answer."""
        if self.is_refused(writer, now) or now < self._asked_at.get(writer, now):
            return False
        self._asked_at[writer] = Instant(now + ASK_PAUSE_S)
        return True

    def may_raise(self, now: Instant) -> bool:
        """Whether our own incarnation may be raised once more."""
        return self._raising.take(1, now)

    def is_refused(self, writer: str, now: Instant) -> bool:
        """Whether the writer broke a limit a short while ago."""
        return now < self._refused_until.get(writer, now)

    def admit(
        self, state: WriterState, delta: Delta, others_bytes: int, writers: int, now: Instant
    ) -> WriterState | None:
        """The state after `delta`, or None (counted) when a limit stands against it.

        `others_bytes`: what all writers but this one and ourselves take; `writers`: how many
        are held.
        """
        config = self._config
        if self.is_refused(state.writer, now):
            self.drop("refused")
            return None
        if state.version == 0 and writers > config.writers_max:
            self.drop("too_many_writers")
            return None
        bucket = self._accepting.get(state.writer)
        if bucket is None:
            bucket = self._accepting[state.writer] = TokenBucket(config.accept_per_s, config.accept_burst, now)
        if not bucket.take(max(1, len(delta.items)), now):
            self.drop("writer_rate")
            return None
        following = state.after(delta, now)
        if len(following.items) > config.writer_facts_max or following.bytes > config.writer_bytes_max:
            self._refuse(state.writer, "writer_full", now)
            return None
        if others_bytes + following.bytes > config.total_bytes_max:
            self._refuse(state.writer, "store_full", now)
            return None
        return following

    def forget_peer(self, peer: str) -> None:
        """A peer is gone."""
        self._reading.pop(peer, None)

    def forget_writer(self, writer: str) -> None:
        """Nothing of that writer is held any more."""
        for table in (self._accepting, self._refused_until, self._asked_at):
            table.pop(writer, None)

    def sweep(self, now: Instant) -> None:
        """Forget refusals and questions that are over."""
        for table in (self._refused_until, self._asked_at):
            for writer in [writer for writer, until in table.items() if until <= now]:
                del table[writer]

    def _refuse(self, writer: str, cause: str, now: Instant) -> None:
        self.drop(cause)
        self._refused_until[writer] = Instant(now + self._config.refusal_s)
