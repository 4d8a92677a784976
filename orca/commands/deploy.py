"""`orca deploy`: put specs from files and wait until they are healthy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from orca.client import NodeClient
from orca.commands.build_context import context_chunks
from orca.commands.changes import ChangeOutcome, finish
from orca.commands.progress import BlobUploaded, BuildLine, BuildStarted, Report, SpecWarning
from orca.commands.rollout import goals_of
from orca.errors import InvalidRequestError, InvalidSpecError, OrcaError, Problem
from orca.model.build import BuildSpec
from orca.model.ids import BlobDigest, SecretId, ServiceId
from orca.model.spec import ServiceSpec
from orca.model.view import DeployRequest, ImageBuild

BUILD_LINES_KEPT: Final = 15


class DeployInput(msgspec.Struct, frozen=True, kw_only=True):
    """What the files of one deploy come to: specs, contents by digest, secrets to set, images to build first."""

    specs: tuple[ServiceSpec, ...]
    blobs: dict[BlobDigest, bytes] = {}
    secrets: dict[SecretId, bytes] = {}
    builds: tuple[BuildSpec, ...] = ()
    warnings: tuple[str, ...] = ()


class DeployOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to deploy: `timeout_s` bounds only our waiting, each spec has a deadline of its own.

    `lock` is the id of the deploy lock that it is done under.
    """

    prune: bool = False
    note: str = ""
    is_detached: bool = False
    timeout_s: float | None = None
    lock: str = ""


def join_inputs(inputs: Sequence[DeployInput]) -> DeployInput:
    """Several files as one deploy, all or none.

    Raises InvalidSpecError when two of them define the same service.
    """
    specs: dict[ServiceId, ServiceSpec] = {}
    problems = []
    for spec in (spec for one in inputs for spec in one.specs):
        if spec.id in specs:
            problems.append(Problem(message=f"service {spec.id} is defined twice", allowed="each service in one file"))
        specs[spec.id] = spec
    if problems:
        raise InvalidSpecError("the files contradict each other", problems=tuple(problems))
    return DeployInput(
        specs=tuple(specs.values()),
        blobs={digest: content for one in inputs for digest, content in one.blobs.items()},
        secrets={name: value for one in inputs for name, value in one.secrets.items()},
        builds=tuple(build for one in inputs for build in one.builds),
        warnings=tuple(warning for one in inputs for warning in one.warnings),
    )


async def deploy_services(
    client: NodeClient, given: DeployInput, report: Report, options: DeployOptions | None = None
) -> ChangeOutcome:
    """Upload what is missing, build what must be built, put the specs, wait for the rollouts.

    A failed rollout is in the outcome. Raises InvalidRequestError for nothing to deploy
    and for contexts that cannot be read, the node's refusals (InvalidSpecError,
    ConflictError), and what a failed build raises; all before anything was changed.
    """
    options = options or DeployOptions()
    if not given.specs:
        raise InvalidRequestError("there is no service to deploy", hint="a service file has one [[service]] or more")
    for warning in given.warnings:
        report(SpecWarning(text=warning))
    await upload_blobs(client, given.blobs, report)
    for build in given.builds:
        await _build(client, build, report)
    reply = await client.deploy(
        DeployRequest(
            specs=given.specs, prune=options.prune, note=options.note, secrets=given.secrets, lock=options.lock
        )
    )
    return await finish(
        client,
        reply.changes,
        goals_of(reply.changes),
        report,
        is_detached=options.is_detached,
        timeout_s=options.timeout_s,
    )


async def upload_blobs(client: NodeClient, blobs: dict[BlobDigest, bytes], report: Report) -> None:
    """Put on the node what it does not have."""
    for digest, content in blobs.items():
        is_new = not await client.has_blob(digest)
        if is_new:
            await client.put_blob(digest, content)
        report(BlobUploaded(digest=digest, bytes_total=len(content), is_new=is_new))


async def _build(client: NodeClient, build: BuildSpec, report: Report) -> None:
    report(BuildStarted(tag=build.image, context=build.context))
    request = ImageBuild(tag=build.image, dockerfile=build.dockerfile, target=build.target, args=build.args)
    last: list[str] = []
    try:
        async with client.build(context_chunks(Path(build.context), build.dockerfile), request) as lines:
            async for line in lines:
                last = [*last[1 - BUILD_LINES_KEPT :], line]
                report(BuildLine(tag=build.image, text=line))
    except OrcaError as error:
        if not error.problems and last:
            error.problems = tuple(Problem(message=line, key=build.image) for line in last if line.strip())
        raise
