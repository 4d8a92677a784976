"""Whose turn it is when requests are shared out by weight: pure."""

from collections.abc import Mapping

from orca.model.ids import ServiceId, SpecRevision


def turns_of(weights: Mapping[SpecRevision, int]) -> tuple[SpecRevision, ...]:
    """One revision for each of as many requests as the weights sum up to, each as often as its weight says.

    Taken in a circle, every run of that many requests is shared out exactly, wherever it begins. The turns of one
    revision lie as far apart as they can: the one that is furthest behind is next (smooth weighted round-robin).
    """
    total = sum(weight for weight in weights.values() if weight > 0)
    credit = {revision: 0 for revision, weight in sorted(weights.items()) if weight > 0}
    turns: list[SpecRevision] = []
    for _ in range(total):
        for revision in credit:
            credit[revision] += weights[revision]
        chosen = max(credit, key=lambda revision: (credit[revision], -revision))
        credit[chosen] -= total
        turns.append(chosen)
    return tuple(turns)


class TurnCounter:
    """How many requests of each service have been shared out; it outlives the tables, of which there are many."""

    def __init__(self) -> None:
        self._counts: dict[ServiceId, int] = {}

    def next(self, service: ServiceId, turns: tuple[SpecRevision, ...]) -> SpecRevision:
        """Whose turn it is for the next request of `service`."""
        count = self._counts.get(service, 0)
        self._counts[service] = count + 1
        return turns[count % len(turns)]

    def give_back(self, service: ServiceId) -> None:
        """The last request that took a turn will take one again."""
        self._counts[service] -= 1

    def keep_only(self, services: frozenset[ServiceId]) -> None:
        """Forget all others."""
        for service in [one for one in self._counts if one not in services]:
            del self._counts[service]
