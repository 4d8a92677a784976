"""The outcome that all changing verbs share."""

import msgspec

from orca.client import NodeClient
from orca.commands.progress import Accepted, Report
from orca.commands.rollout import Goal
from orca.commands.waiting import WaitOutcome, wait_for
from orca.model.view import ServiceChange


class ChangeOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the node committed, and how the wait for it ended (None: nobody waited)."""

    changes: tuple[ServiceChange, ...]
    wait: WaitOutcome | None = None


async def finish(
    client: NodeClient,
    changes: tuple[ServiceChange, ...],
    goals: tuple[Goal, ...],
    report: Report,
    *,
    is_detached: bool = False,
    timeout_s: float | None = None,
) -> ChangeOutcome:
    """Tell that `changes` are accepted and, unless detached, wait for `goals`."""
    report(Accepted(changes=changes))
    if is_detached:
        return ChangeOutcome(changes=changes)
    return ChangeOutcome(changes=changes, wait=await wait_for(client, goals, report, timeout_s=timeout_s))
