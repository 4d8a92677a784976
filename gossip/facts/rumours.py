"""What is new and still has to be pushed: which writers, since when, how often it was."""

import msgspec

from gossip.facts.frames import Digest, encode_message
from gossip.facts.outgoing import Outgoing
from gossip.facts.store import FactStore


class _Rumour(msgspec.Struct):
    """News of one writer; changed in place."""

    since: int
    serial: int
    sent: int = 0


class Rumours:
    """News by writer. A push carries a writer's newest facts, so newer news replace older by themselves."""

    def __init__(self) -> None:
        self._rumours: dict[str, _Rumour] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._rumours)

    def start(self, writer: str, since: int) -> None:
        """There is something new above version `since`; news that still run begin where they began."""
        self._serial += 1
        known = self._rumours.get(writer)
        since = since if known is None else min(since, known.since)
        self._rumours[writer] = _Rumour(since=since, serial=self._serial)

    def rebase(self, writer: str) -> None:
        """Versions of the writer began anew: what still runs is pushed from the beginning."""
        known = self._rumours.get(writer)
        if known is not None:
            known.since = 0

    def forget(self, writer: str) -> None:
        """The writer is gone."""
        self._rumours.pop(writer, None)

    def packet(self, store: FactStore, outgoing: Outgoing, limit: int, *, receiver: str) -> list[bytes]:
        """Messages for one packet to `receiver`: least pushed first, then newest. Those pushed `limit` times end.

        What is too long for any packet is only mentioned; who lacks it asks. Nobody is told
        news of himself.
        """
        room = outgoing.packet_room_bytes
        messages: list[bytes] = []
        order = sorted(self._rumours.items(), key=lambda item: (item[1].sent, -item[1].serial))
        for writer, rumour in order:
            if writer == receiver:
                continue
            state = store.get(writer)
            message = outgoing.newest(state, rumour.since, room)
            if message is None and not messages:
                message = encode_message(Digest((state.reach,)))
            if message is None or len(message) > room:
                continue
            messages.append(message)
            room -= len(message)
            rumour.sent += 1
            if rumour.sent >= limit:
                del self._rumours[writer]
        return messages
