"""A revision that stands beside the one before it: what it needs until it is promoted, and who gets requests."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from consensus.state.cluster import ServiceRecord
from consensus.state.records import RevisionRecord
from orca.model.allocation import Allocation
from orca.model.ids import SpecRevision, display_name
from orca.model.spec import DeployStrategy
from orca.model.units import WallMs
from orca.model.view import RolloutState

ALL_PERCENT: Final = 100


class Stage(msgspec.Struct, frozen=True):
    """The copies of a service whose newest revision has not been promoted.

    `base` serves: as many copies of it as are wanted stay, or are made again where one is lost. `others` are of
    neither revision (of a rollout that came no further, a canary before this one), or have to leave their nodes: those
    that serve go once copies of the base serve instead.
    """

    base: RevisionRecord
    staying: list[Allocation]
    others: list[Allocation]

    def free_slots(self, wanted: int) -> tuple[int, ...]:
        """The slots in which a copy of the base is missing."""
        taken = {one.slot for one in self.staying}
        lacking = max(0, wanted - len(self.staying))
        return tuple(slot for slot in range(wanted + len(taken)) if slot not in taken)[:lacking]


def copies_wanted(record: ServiceRecord) -> int:
    """How many copies of the newest revision are wanted now."""
    if not record.is_staged or record.spec.deploy.strategy is DeployStrategy.BLUE_GREEN:
        return record.replicas
    return min(record.spec.deploy.canary_copies, record.replicas)


def stage_of(
    record: ServiceRecord, outdated: Iterable[Allocation], movers: frozenset[str], is_over: Callable[[Allocation], bool]
) -> Stage | None:
    """The stage that `record` is in, None when nothing stands beside anything. `movers` have to leave their nodes."""
    base = record.base
    if base is None or not record.is_staged:
        return None
    staying: list[Allocation] = []
    others: list[Allocation] = []
    for one in outdated:
        is_of_base = one.template == base.template and one.id not in movers and not is_over(one)
        (staying if is_of_base else others).append(one)
    return Stage(base, staying, others)


def weights_of(record: ServiceRecord, ready: Mapping[SpecRevision, int]) -> dict[SpecRevision, int]:
    """How many percent of the requests each revision gets, of which so many copies are ready; empty: all the same.

    What failed, or is to take none before its promotion, gets none; nor do, after that of a blue-green rollout, the
    copies that are kept for the way back. Older revisions share what is theirs by their copies.
    """
    deploy, current = record.spec.deploy, record.current.revision
    if record.base is None or deploy.strategy is DeployStrategy.ROLLING:
        return {}
    if not record.is_staged:
        is_switched = deploy.strategy is DeployStrategy.BLUE_GREEN and record.rollout.state is not RolloutState.FAILED
        return {current: ALL_PERCENT} if is_switched else {}
    takes_some = deploy.strategy is DeployStrategy.CANARY and record.rollout.state is not RolloutState.FAILED
    percent = deploy.canary_percent if takes_some else 0
    older = {revision: count for revision, count in sorted(ready.items()) if revision != current and count}
    return {current: percent, **_shares(ALL_PERCENT - percent, older)}


def _shares(whole: int, counts: Mapping[SpecRevision, int]) -> dict[SpecRevision, int]:
    """`whole` by `counts`, in whole numbers that sum up to it."""
    shares: dict[SpecRevision, int] = {}
    left, copies = whole, sum(counts.values())
    for revision, count in counts.items():
        shares[revision] = left * count // copies
        left, copies = left - shares[revision], copies - count
    return shares


def promotes_at_ms(record: ServiceRecord) -> WallMs | None:
    """When a revision that is healthy promotes itself; never, if a person has to."""
    after_s, since_ms = record.spec.deploy.auto_promote_s, record.rollout.ended_at_ms
    if after_s is None or since_ms is None or record.rollout.state is not RolloutState.AWAITING:
        return None
    return WallMs(since_ms + round(after_s * 1000))


def keeps_old_until_ms(record: ServiceRecord) -> WallMs | None:
    """Until when the copies of the revision before are kept after a promotion; None: they are not."""
    deploy, at_ms = record.spec.deploy, record.rollout.promoted_at_ms
    if deploy.strategy is not DeployStrategy.BLUE_GREEN or at_ms is None or not deploy.keep_old_s:
        return None
    return WallMs(at_ms + round(deploy.keep_old_s * 1000))


def describe(record: ServiceRecord) -> str:
    """What a healthy revision waits for, and what a person may do."""
    deploy, count, name = record.spec.deploy, copies_wanted(record), display_name(record.id)
    takes = f"{deploy.canary_percent} % of" if deploy.strategy is DeployStrategy.CANARY else "no"
    copies = f"{count} new {'copy takes' if count == 1 else 'copies take'} {takes} requests"
    return f"{copies}; `orca promote {name}` goes on, `orca rollback {name}` goes back"
