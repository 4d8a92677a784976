"""What leaves the Serf layer: broadcasts in three queues, effects in order, and counts of what was dropped."""

from gossip.serf.effects import SerfEffect
from gossip.transmit_queue import TransmitQueue


class Outbox:
    """Shared by the parts of the layer."""

    def __init__(self) -> None:
        self.intents = TransmitQueue()
        self.queries = TransmitQueue()
        self.events = TransmitQueue()
        self.drops: dict[str, int] = {}
        self._effects: list[SerfEffect] = []

    def emit(self, effect: SerfEffect) -> None:
        """Have `effect` performed after those that are there; what one step gives is bounded by its input."""
        self._effects.append(effect)

    def drop(self, cause: str) -> None:
        """Count something that was thrown away; `cause` is a short stable word."""
        self.drops[cause] = self.drops.get(cause, 0) + 1

    def drain(self) -> list[SerfEffect]:
        """The effects since the last call."""
        effects, self._effects = self._effects, []
        return effects

    def has_broadcasts(self) -> bool:
        """Whether anything waits for a packet."""
        return bool(len(self.intents) or len(self.queries) or len(self.events))

    def broadcasts(self, overhead_bytes: int, room_bytes: int, limit: int) -> list[bytes]:
        """Payloads for one packet: intents first, then queries, then events, as Serf does."""
        payloads: list[bytes] = []
        for queue in (self.intents, self.queries, self.events):
            if not len(queue):
                continue
            taken = queue.take(overhead_bytes, room_bytes, limit)
            room_bytes -= sum(overhead_bytes + len(payload) for payload in taken)
            payloads += taken
        return payloads

    def check_invariants(self) -> None:
        """Raise AssertionError when a queue is out of order."""
        for queue in (self.intents, self.queries, self.events):
            queue.check_invariants()
