"""What is known of each runtime's instances, and when to ask again."""

import msgspec

from orca.model.spec import RuntimeKind
from orca.model.units import Instant


class _Listing(msgspec.Struct, kw_only=True):
    """One runtime. `asked_at_step` is set while an answer is awaited."""

    is_known: bool = False
    asked_at_step: int | None = None
    is_void: bool = False
    is_wanted_again: bool = False
    retry_at: Instant | None = None


class Listings:
    """One question in flight per runtime; a second wish waits for the first answer.

    Two at once could be answered in any order, and the older answer would then overrule
    what was learned since.
    """

    def __init__(self) -> None:
        self._of: dict[RuntimeKind, _Listing] = {}

    def is_known(self, kind: RuntimeKind) -> bool:
        """Whether the runtime has listed what exists since it was last away."""
        return self._get(kind).is_known

    def ask(self, kind: RuntimeKind, step: int) -> bool:
        """Want a listing that is newer than `step`; True when it has to be ordered now."""
        listing = self._get(kind)
        listing.retry_at = None
        if listing.asked_at_step is not None:
            listing.is_wanted_again = True
            return False
        listing.asked_at_step = step
        return True

    def answered(self, kind: RuntimeKind) -> int | None:
        """The step in which the answer was asked for; None when it must not be used any more."""
        listing = self._get(kind)
        since, is_void = listing.asked_at_step, listing.is_void
        listing.asked_at_step, listing.is_void = None, False
        if since is None or is_void:
            return None
        listing.is_known = True
        return since

    def failed(self, kind: RuntimeKind, retry_at: Instant) -> None:
        """No answer came; ask again at `retry_at` unless the runtime is known to be away."""
        listing = self._get(kind)
        if not listing.is_void:
            listing.retry_at = retry_at
        listing.asked_at_step, listing.is_void = None, False

    def take_wish(self, kind: RuntimeKind) -> bool:
        """Whether another listing was wanted while the last one was on its way; asked once."""
        listing = self._get(kind)
        wish, listing.is_wanted_again = listing.is_wanted_again, False
        return wish

    def lose(self, kind: RuntimeKind, retry_at: Instant | None) -> None:
        """The runtime does not answer: what it said before is no longer known to be so.

        With `retry_at` it is asked again then, else when it says that it is back.
        """
        listing = self._get(kind)
        listing.is_known = False
        listing.is_void = listing.asked_at_step is not None
        listing.is_wanted_again = listing.is_void and retry_at is not None
        listing.retry_at = None if listing.is_void else retry_at

    def due(self, now: Instant) -> list[RuntimeKind]:
        """The runtimes to ask again now."""
        return [kind for kind, one in self._of.items() if one.retry_at is not None and one.retry_at <= now]

    def deadline(self) -> Instant | None:
        """When one of them is due next."""
        return min((one.retry_at for one in self._of.values() if one.retry_at is not None), default=None)

    def _get(self, kind: RuntimeKind) -> _Listing:
        return self._of.setdefault(kind, _Listing())
