"""Looks on until goals are reached: the driver of the pure machine in `rollout`."""

import math
from typing import Final

import msgspec
import trio

from orca.client import NodeClient
from orca.commands.names import slot_name
from orca.commands.progress import Reconnecting, Report, Waiting
from orca.commands.rollout import Goal, GoalKind, Rollout, ServiceFailure, Verdict
from orca.errors import DeployFailedError, NodeUnreachableError, NotAvailableError, OrcaError, Problem
from orca.model.ids import AllocationId, ServiceId, display_name
from orca.model.units import format_duration
from orca.model.view import NodeSilence, ServiceView

LOG_LINES_SHOWN: Final = 10
COPIES_EXPLAINED_MAX: Final = 3
NODE_AWAY_S_MAX: Final = 30.0
EVERYWHERE_S: Final = 3.0
"""How long other nodes may take to hear that copies are ready: some ten rounds of gossip."""
_LOG_DEADLINE_S: Final = 5.0


class WaitOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a wait ended: the services as last seen, and every failure with the copies' last lines.

    `silent`: living nodes that did not confirm in time that they send requests to the new copies.
    """

    services: tuple[ServiceView, ...] = ()
    failures: tuple[ServiceFailure, ...] = ()
    logs: dict[AllocationId, tuple[str, ...]] = {}
    silent: tuple[NodeSilence, ...] = ()

    def error(self) -> DeployFailedError | None:
        """The failures as one error, None after success. What served before still serves."""
        if not self.failures:
            return None
        problems = tuple(
            Problem(message=f"{copy.phase.value}: {copy.reason or 'not ready'}", key=slot_name(copy))
            for failure in self.failures
            for copy in failure.unhealthy[:COPIES_EXPLAINED_MAX]
        )
        sentences = [f"{display_name(failure.service)}: {failure.message}" for failure in self.failures]
        return DeployFailedError("; ".join(sentences), problems=problems)


async def wait_for(
    client: NodeClient, goals: tuple[Goal, ...], report: Report, *, timeout_s: float | None = None
) -> WaitOutcome:
    """Watch until all `goals` are reached or lost, at most `timeout_s` (None: as long as the cluster tries).

    After success every living node serves the new copies, or is named in the outcome. A node that
    goes away meanwhile is waited for up to 30 s. Raises what the node answers otherwise. Failures are in
    the outcome, not raised.
    """
    if not goals:
        return WaitOutcome()
    watcher = _Watcher(client, goals, report)
    with trio.move_on_after(math.inf if timeout_s is None else timeout_s):
        await watcher.run()
    verdict = watcher.verdict or watcher.machine.expire(format_duration(timeout_s or 0.0))
    return WaitOutcome(
        services=tuple(watcher.seen.values()),
        failures=verdict.failures,
        logs=await _last_lines(client, verdict.failures),
        silent=() if verdict.failures else await _wait_everywhere(client, goals),
    )


class _Watcher:
    """Feeds the machine from watch streams, over interruptions of the node."""

    def __init__(self, client: NodeClient, goals: tuple[Goal, ...], report: Report) -> None:
        self.machine = Rollout(goals)
        self.seen: dict[ServiceId, ServiceView] = {}
        self.verdict: Verdict | None = None
        self._client = client
        self._names = tuple(dict.fromkeys(goal.service for goal in goals))
        self._report = report
        self._last_answer_at = trio.current_time()

    async def run(self) -> None:
        """Return when there is a verdict; raise when the node stays away or refuses."""
        pause_s = 0.1
        while True:
            answered_at = self._last_answer_at
            try:
                self.verdict = await self._follow()
                cause: OrcaError = NodeUnreachableError(f"{self._client.address} ended the stream")
            except (NodeUnreachableError, NotAvailableError) as error:
                cause = error
            if self.verdict is not None:
                return
            if trio.current_time() - self._last_answer_at > NODE_AWAY_S_MAX:
                raise cause
            pause_s = 0.1 if self._last_answer_at > answered_at else min(pause_s * 2, 2.0)
            self._report(Reconnecting(reason=cause.message))
            await trio.sleep(pause_s)

    async def _follow(self) -> Verdict | None:
        async with self._client.watch_services(self._names) as replies:
            async for reply in replies:
                self._last_answer_at = trio.current_time()
                self.seen.update({view.id: view for view in reply.services})
                step = self.machine.observe(reply.services)
                self._report(Waiting(step=step))
                if step.verdict is not None:
                    return step.verdict
        return None


async def _wait_everywhere(client: NodeClient, goals: tuple[Goal, ...]) -> tuple[NodeSilence, ...]:
    """Until all living nodes send requests to the new copies; those that do not say so in time."""
    services = tuple(dict.fromkeys(goal.service for goal in goals if goal.kind is GoalKind.HEALTHY))
    if not services:
        return ()
    try:
        return (await client.ready(services, within_s=EVERYWHERE_S)).silent
    except OrcaError:
        return ()  # the change is done; an older node cannot say more than that


async def _last_lines(client: NodeClient, failures: tuple[ServiceFailure, ...]) -> dict[AllocationId, tuple[str, ...]]:
    """The last lines of the copies that failed; none where they cannot be had in time."""
    lines: dict[AllocationId, tuple[str, ...]] = {}
    for failure in failures:
        for copy in failure.unhealthy[:COPIES_EXPLAINED_MAX]:
            with trio.move_on_after(_LOG_DEADLINE_S):
                try:
                    async with client.logs(allocation=copy.id, tail=LOG_LINES_SHOWN) as records:
                        lines[copy.id] = tuple([record.text async for record in records])
                except OrcaError:
                    # The failure itself is the news; a copy that never started has no output to show.
                    continue
    return {copy: texts for copy, texts in lines.items() if texts}
