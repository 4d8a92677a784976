"""Which of several ready targets gets the next request: pure."""

from collections.abc import Callable, Collection, Sequence

from node.proxy.routes import Target
from orca.model.ids import AllocationId
from orca.sources import Rng


def pick_target(
    targets: Sequence[Target],
    in_flight: Callable[[AllocationId], int],
    rng: Rng,
    tried: Collection[AllocationId] = (),
) -> Target | None:
    """The less loaded of two targets drawn at random; None when none is left.

    Two choices keep the longest queue near log log n without looking at all of them, and
    unlike plain least-connections a fresh copy is not stormed by every request at once
    (Mitzenmacher, The Power of Two Choices, 2001). `tried` are left out.
    """
    candidates = [target for target in targets if target.allocation not in tried] if tried else targets
    count = len(candidates)
    if count < 2:
        return candidates[0] if candidates else None
    first = min(int(rng.random() * count), count - 1)
    other = min(int(rng.random() * (count - 1)), count - 2)
    second = other + 1 if other >= first else other
    one, two = candidates[first], candidates[second]
    return two if in_flight(two.allocation) < in_flight(one.allocation) else one
