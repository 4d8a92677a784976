"""Named stories, and pinned seeds of old failures.

`raft` is chaos for a group of our own machines; `yardstick` gives the same clients to PySyncObj, the negative control.
"""

from collections.abc import Callable
from typing import Final

from simulations.scenarios import raft
from simulations.scenarios.report import Report


def _yardstick(seed: int, trace: Callable[[str], None] | None) -> Report:
    from simulations.scenarios import yardstick  # needs the extra `bench`

    return yardstick.run(seed, trace)


SCENARIOS: Final[dict[str, Callable[[int, Callable[[str], None] | None], Report]]] = {
    raft.NAME: lambda seed, trace: raft.run(seed, trace=trace),
    "yardstick": _yardstick,
}
