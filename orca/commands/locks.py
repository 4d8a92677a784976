"""`orca deploy --lock`: one deploy with a deploy lock around it."""

from typing import Final

import msgspec
import trio

from orca.client import NodeClient
from orca.commands.changes import ChangeOutcome
from orca.commands.deploy import DeployInput, DeployOptions, deploy_services
from orca.commands.progress import Report
from orca.errors import InvalidRequestError, OrcaError
from orca.model.lock_view import LockRequest

TTL_S: Final = 3600.0
"""When the lock of a deploy ends by itself: whoever took it may have died."""
_RELEASE_S: Final = 10.0


async def deploy_locked(
    client: NodeClient, given: DeployInput, report: Report, options: DeployOptions
) -> ChangeOutcome:
    """`deploy_services`, while nobody else deploys to the same projects.

    The lock is released however it ends, also when we are interrupted. Raises ConflictError, before anything was
    changed, when somebody holds a lock: who, since when and why is in its message.
    """
    projects = tuple(sorted({spec.project for spec in given.specs}))
    if not projects:
        raise InvalidRequestError("there is no service to deploy", hint="a service file has one [[service]] or more")
    request = LockRequest(projects=projects, note=options.note or "a deploy is under way", ttl_s=TTL_S)
    lock = (await client.acquire_lock(request)).locks[0].id
    try:
        return await deploy_services(client, given, report, msgspec.structs.replace(options, lock=lock))
    finally:
        with trio.move_on_after(_RELEASE_S, shield=True):
            for project in projects:
                try:
                    await client.release_lock(project, lock)
                except OrcaError:
                    # Released by somebody else, or it will end by itself; what came of the deploy is the news.
                    continue
