"""The `singleton` key of a service: at most one copy at any time, and what does not go with that."""

from collections.abc import Iterator
from typing import Final

from orca.model.spec import DeployStrategy, ServiceSpec, SingletonSpec, UpdateOrder
from orca.specs.findings import Fault
from orca.specs.section import Item, Section

LEASE_S_MIN: Final = 5.0
"""A third is for the copy to stop in, and a renewal is tried every fifth: less would end with each slow disk."""
LEASE_S_MAX: Final = 3600.0


def read_singleton(item: Item) -> SingletonSpec | None:
    """`true`, or `{ lease = "15s" }`; `false` is as if it were not there."""
    if item.is_table:
        return SingletonSpec(lease_s=Section(item, ("lease",)).read("lease", Item.duration, SingletonSpec().lease_s))
    return SingletonSpec() if item.boolean() else None


def find_singleton_faults(spec: ServiceSpec) -> Iterator[Fault]:
    """Why there cannot be one copy of `spec` at most."""
    if spec.singleton is None:
        return
    lease_s = spec.singleton.lease_s
    if not LEASE_S_MIN <= lease_s <= LEASE_S_MAX:  # NaN fails too
        allowed = f"{LEASE_S_MIN:g} to {LEASE_S_MAX:g} s"
        yield Fault("singleton", f"a lease of {lease_s:g} s is out of range", allowed)
    if spec.is_global:
        yield Fault("singleton", "a service with a copy on each node has more than one", 'mode = "replicated"')
    elif spec.replicas > 1:
        message = f"a singleton has one copy at most, and {spec.replicas} are wanted"
        yield Fault("replicas", message, "1, or 0 for none; or no singleton")
    if spec.is_job:
        message = "a singleton is a service that goes on, and this one ends: it is a job"
        yield Fault("singleton", message, 'restart = "always" and no schedule; a schedule has its own `overlap`')
    if spec.deploy.strategy is not DeployStrategy.ROLLING:
        message = f"a {spec.deploy.strategy.value} rollout runs two copies at once, and a singleton has one at most"
        yield Fault("deploy.strategy", message, '"rolling"')
    elif spec.deploy.order is not UpdateOrder.STOP_FIRST:
        message = "the new copy of a singleton cannot start before the old one has stopped"
        yield Fault("deploy.order", message, '"stop-first", which is what a singleton has by itself')
