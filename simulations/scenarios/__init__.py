"""Named stories, and pinned seeds of old failures.

`raft` is chaos of all kinds for a group of our own machines; `elections`, `changes` and `reads` are harder on one
part of it each; `recovery` starts a group anew that lost its quorum; `yardstick` gives the same clients to PySyncObj,
the negative control. `gossip` is chaos for the members of a gossip cluster, `services` for whole nodes that run
services, `services-large` the same for fifty of them with a thousand services.
"""

from collections.abc import Callable
from typing import Final

from simulations.scenarios import gossip, raft, recovery, services
from simulations.scenarios.plans import PLANS, Plan
from simulations.scenarios.report import Report


def _yardstick(seed: int, trace: Callable[[str], None] | None) -> Report:
    from simulations.scenarios import yardstick  # needs the extra `bench`

    return yardstick.run(seed, trace)


def _of(plan: Plan) -> Callable[[int, Callable[[str], None] | None], Report]:
    return lambda seed, trace: raft.run(seed, plan, trace=trace)


SCENARIOS: Final[dict[str, Callable[[int, Callable[[str], None] | None], Report]]] = {
    **{plan.name: _of(plan) for plan in PLANS},
    recovery.NAME: recovery.run,
    gossip.NAME: gossip.run,
    services.NAME: services.run,
    services.LARGE.name: lambda seed, trace: services.run(seed, trace, services.LARGE),
    "yardstick": _yardstick,
}
