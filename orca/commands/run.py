"""`orca run`: one command in a copy of its own, which goes when the command ends.

A run is a job like any other: a service with one copy that is not started again. Its name is made here, it carries
the label `one-off`, and whoever waits for it removes it, however the wait ends. What nobody waited for (`--detach`, or
a terminal that died) stays to be looked at; of those that are over the newest `RUNS_KEPT` of a project stay.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import msgspec
import trio

from orca.client import NodeClient
from orca.client.api import fresh_request_id
from orca.commands.names import resolve_service
from orca.commands.progress import Accepted, Report
from orca.commands.rollout import Goal, GoalKind
from orca.commands.waiting import WaitOutcome, wait_for
from orca.errors import InvalidRequestError, NodeUnreachableError, NotAvailableError, NotFoundError, OrcaError
from orca.model.allocation import TERMINAL_PHASES
from orca.model.ids import DEFAULT_PROJECT, ProjectName, ServiceId, ServiceName
from orca.model.job import job_of
from orca.model.spec import (
    ContainerImage,
    Resources,
    RestartPolicy,
    RestartSpec,
    ServiceSpec,
    WasmModule,
    WasmWorld,
)
from orca.model.units import WallMs
from orca.model.view import DeployRequest, LogRecord, RolloutState, ServiceView

RUNS_KEPT: Final = 10
LABEL: Final = "one-off"
"""On every run: the image or the service that it was made of."""
_NAME: Final = re.compile(r".*-run-[0-9a-f]{6}")
_STEM_MAX: Final = 63 - len("-run-123456")
_POLL_S: Final = 0.2
_REMOVAL_S: Final = 10.0
_LAST_LINES_S: Final = 10.0

ShowLine = Callable[[LogRecord], None]


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is given beside the command. `project` is that of a run of an image; `node` a node's name or id."""

    project: ProjectName = DEFAULT_PROJECT
    env: dict[str, str] = {}
    resources: Resources = Resources()
    node: str | None = None


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The service that the run was, and how its command ended; None: nobody waited."""

    service: ServiceId
    exit_code: int | None = None


async def make_run(client: NodeClient, target: str, command: tuple[str, ...], options: RunOptions) -> ServiceSpec:
    """The spec of a run of `command` in `target`: a service, or else an image.

    Takes away what is too many of the runs that are over. Raises AmbiguousNameError for the name of several services,
    InvalidRequestError for what cannot be run to its end.
    """
    services = (await client.services()).services
    try:
        found = resolve_service(target, services)
    except NotFoundError:
        base = ServiceSpec(
            name=ServiceName(_stem(target)), project=options.project, source=ContainerImage(image=target)
        )
    else:
        base = (await client.service(found.id)).spec
    spec = run_of(base, target, command, options, fresh_request_id()[:6])
    await _forget_old(client, services, spec.project)
    return spec


def run_of(base: ServiceSpec, target: str, command: tuple[str, ...], options: RunOptions, suffix: str) -> ServiceSpec:
    """The job that a run of `command` in `base` is; it is never started a second time."""
    source = base.source
    if isinstance(source, WasmModule):
        if source.world is WasmWorld.HTTP:
            raise InvalidRequestError(f"{target} answers requests and has no command to run")
        source = msgspec.structs.replace(source, world=WasmWorld.COMMAND, args=command or source.args)
    else:
        source = msgspec.structs.replace(source, command=command or source.command)
    stem = base.name[:_STEM_MAX].rstrip("-")
    given, job = options.resources, job_of(base, ServiceName(f"{stem}-run-{suffix}"), {LABEL: target})
    return msgspec.structs.replace(
        job,
        source=source,
        replicas=1,
        restart=RestartSpec(policy=RestartPolicy.NEVER),
        env={**base.env, **options.env},
        resources=msgspec.structs.replace(
            base.resources,
            cpu_milli=base.resources.cpu_milli if given.cpu_milli is None else given.cpu_milli,
            memory_bytes=base.resources.memory_bytes if given.memory_bytes is None else given.memory_bytes,
        ),
        placement=msgspec.structs.replace(job.placement, node=options.node or base.placement.node),
    )


async def start_run(client: NodeClient, spec: ServiceSpec, report: Report) -> Goal:
    """Put the job; what to wait for."""
    reply = await client.deploy(DeployRequest(specs=(spec,), note="orca run"))
    report(Accepted(changes=reply.changes))
    return Goal(service=spec.id, kind=GoalKind.HEALTHY, revision=reply.changes[0].revision)


async def run_to_its_end(client: NodeClient, spec: ServiceSpec, show: ShowLine, report: Report) -> RunOutcome:
    """Start it, pass its output to `show` as it comes, remove it; its exit code.

    It is stopped and removed also when we are cancelled. Raises DeployFailedError when the command never ran, or
    nobody knows how it ended.
    """
    try:
        goal = await start_run(client, spec, report)
        output = _Output(client, spec.id, show)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(output.follow)
            wait = await wait_for(client, (goal,), report)
            nursery.cancel_scope.cancel()
        await output.read_rest()
    finally:
        with trio.move_on_after(_REMOVAL_S, shield=True):
            await _remove(client, spec.id)
    return RunOutcome(service=spec.id, exit_code=_exit_code(wait))


def _exit_code(wait: WaitOutcome) -> int:
    error = wait.error()
    if error is None:
        return 0
    failed = [copy for failure in wait.failures for copy in failure.unhealthy if copy.phase in TERMINAL_PHASES]
    codes = [copy.exit_code for copy in failed if copy.exit_code]
    if not codes:
        raise error
    return codes[-1]


class _Output:
    """Every line of a run once, over interruptions."""

    def __init__(self, client: NodeClient, service: ServiceId, show: ShowLine) -> None:
        self._client = client
        self._service = service
        self._show = show
        self._last_ms: WallMs | None = None
        self._at_last_ms: Counter[tuple[str, str]] = Counter()

    async def follow(self) -> None:
        """Show lines as they come, until cancelled."""
        while True:
            # The node has not heard of it yet, or is away for a moment; whoever waits for the end says so.
            with suppress(NotFoundError, NodeUnreachableError, NotAvailableError):
                await self._read(is_followed=True)
            await trio.sleep(_POLL_S)

    async def read_rest(self) -> None:
        """Show what was written at the very end, as far as the node gives it."""
        with trio.move_on_after(_LAST_LINES_S):
            try:
                await self._read(is_followed=False)
            except (NotFoundError, NodeUnreachableError, NotAvailableError):
                return  # how it ended is known, and is the news

    async def _read(self, *, is_followed: bool) -> None:
        # Lines share milliseconds: those of the last one come again, and are told apart by what they say.
        again = self._at_last_ms.copy()
        last_ms = self._last_ms
        since_ms = None if last_ms is None else WallMs(last_ms - 1)
        async with self._client.logs(service=self._service, follow=is_followed, since_ms=since_ms) as records:
            async for record in records:
                key = (record.stream, record.text)
                if record.at_ms == last_ms and again[key] > 0:
                    again[key] -= 1
                    continue
                if self._last_ms is None or record.at_ms > self._last_ms:
                    self._last_ms = record.at_ms
                    self._at_last_ms.clear()
                if record.at_ms == self._last_ms:
                    self._at_last_ms[key] += 1
                self._show(record)


def runs_to_forget(services: Iterable[ServiceView], project: ProjectName) -> tuple[ServiceId, ...]:
    """Of the runs of `project` that are over, the oldest beyond `RUNS_KEPT`; told by their names."""
    over = [
        one
        for one in services
        if one.project == project
        and one.is_job
        and _NAME.fullmatch(one.name)
        and one.rollout.state is not RolloutState.PROGRESSING
        and all(copy.phase in TERMINAL_PHASES for copy in one.allocations)
    ]
    over.sort(key=lambda one: (one.updated_at_ms, one.id))
    return tuple(one.id for one in over[: max(0, len(over) - RUNS_KEPT)])


async def _forget_old(client: NodeClient, services: Iterable[ServiceView], project: ProjectName) -> None:
    for service in runs_to_forget(services, project):
        try:
            spec = (await client.service(service)).spec
        except NotFoundError:
            continue  # somebody else was faster
        if LABEL in spec.labels:
            await _remove(client, service)


async def _remove(client: NodeClient, service: ServiceId) -> None:
    try:
        await client.remove(service)
    except OrcaError:
        # It was never put, somebody removed it, or the node is away: then it ends by itself and is listed as a run.
        return


def _stem(image: str) -> str:
    """A name made of an image's: `ghcr.io/acme/Web_App:2` gives `web-app`."""
    last = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-") or "image"
