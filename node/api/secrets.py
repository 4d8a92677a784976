"""Secrets: handlers of `/v1/secrets`. Values come in, and none ever goes out."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

import msgspec

from node.api.call import CHANGE_ERRORS, WRITE_ERRORS, BodyKind, Call, NoBody, NoQuery, Route
from node.api.caller import Caller
from node.api.params import SecretQuery, SecretsQuery
from orca.client.api import NodeClient
from orca.errors import ConflictError, ForbiddenError, InvalidRequestError, NodeUnreachableError
from orca.model.ids import SecretId
from orca.model.secret_view import DataKeyReply, SecretsChangeReply, SecretsReply, SetSecretsRequest
from orca.model.secrets import split_secret_id

T = TypeVar("T")


async def list_secrets(call: Call[SecretsQuery, NoBody]) -> SecretsReply:
    """`GET /v1/secrets`."""
    control, caller = call.control, call.caller
    found = [one for one in control.secrets.list(call.query.project) if _may_see(caller, one.id)]
    shown = (
        msgspec.structs.replace(one, users=tuple(user for user in one.users if caller.sees_service(user)))
        for one in found
    )
    return SecretsReply(observation=control.observation(), secrets=tuple(shown))


async def set_secrets(call: Call[NoQuery, SetSecretsRequest]) -> SecretsChangeReply:
    """`PUT /v1/secrets`."""
    control, request = call.control, call.body
    check_secrets(call.caller, request.values)
    request_id = control.request_id(request.request_id)
    reply = await pass_on(call, lambda member: member.set_secrets(request.values, request_id=request_id))
    if reply is not None:
        return reply
    changed, changes = await control.secrets.set(request.values, request_id=request_id, by=call.author)
    return SecretsChangeReply(
        observation=control.observation(),
        changed=changed,
        unchanged=tuple(sorted(set(request.values) - set(changed))),
        changes=changes,
    )


async def remove_secret(call: Call[SecretQuery, NoBody]) -> SecretsChangeReply:
    """`DELETE /v1/secrets?id=PROJECT/NAME`."""
    control = call.control
    secret = SecretId(call.query.id)
    check_secrets(call.caller, (secret,))
    await control.secrets.remove((secret,), request_id=control.request_id(call.query.request_id), by=call.author)
    return SecretsChangeReply(observation=control.observation(), changed=(secret,))


async def rotate_data_key(call: Call[NoQuery, NoBody]) -> DataKeyReply:
    """`POST /v1/secrets/rotate`: answers when nothing is sealed with the old key any more."""
    control = call.control
    reply = await pass_on(call, lambda member: member.rotate_data_key())
    if reply is not None:
        return reply
    version, secrets = await control.secrets.rotate(by=call.author)
    return DataKeyReply(observation=control.observation(), version=version, secrets=secrets)


async def pass_on(call: Call[Any, Any], ask: Callable[[NodeClient], Awaitable[T]]) -> T | None:
    """What a member answers that can seal, on a worker, which cannot; None where this node does it itself.

    Raises what the member refuses with, NodeUnreachableError when none answers.
    """
    members = call.control.secrets.sealers()
    if call.far is None or not members:
        return None
    reasons = []
    for node in members:
        try:
            async with call.far.client(node, call.caller) as member:
                return await ask(member)
        except NodeUnreachableError as error:
            reasons.append(f"{node}: {error.message}")
    raise NodeUnreachableError(f"this node is a worker and reaches nobody who can seal secrets: {'; '.join(reasons)}")


def check_secrets(caller: Caller, secrets: Iterable[SecretId]) -> None:
    """All or none: raise ForbiddenError when `caller` has no right to one of `secrets`."""
    for secret in secrets:
        project, _ = split_secret_id(secret)
        if project is not None:
            caller.check_project(project)
        elif caller.projects:
            raise ForbiddenError(
                f"{caller.actor} is limited to {', '.join(caller.projects)}, and {secret[1:][:80]!r} is a secret of "
                "the whole cluster"
            )


def _may_see(caller: Caller, secret: SecretId) -> bool:
    """A secret of the whole cluster may be used in every project, so everybody may know that there is one."""
    project, _ = split_secret_id(secret)
    return project is None or caller.sees(project)


SECRET_ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/secrets",
        handler=list_secrets,
        summary="All secrets and who uses them; never a value",
        tag="secrets",
        reply=SecretsReply,
        query=SecretsQuery,
    ),
    Route(
        method="PUT",
        path="/v1/secrets",
        handler=set_secrets,
        summary="Set secrets, all or none; services that use a changed one get new copies",
        tag="secrets",
        reply=SecretsChangeReply,
        body=BodyKind.JSON,
        request=SetSecretsRequest,
        errors=(InvalidRequestError, *WRITE_ERRORS),
    ),
    Route(
        method="DELETE",
        path="/v1/secrets",
        handler=remove_secret,
        summary="Forget a secret that no service uses",
        tag="secrets",
        reply=SecretsChangeReply,
        query=SecretQuery,
        errors=CHANGE_ERRORS,
    ),
    Route(
        method="POST",
        path="/v1/secrets/rotate",
        handler=rotate_data_key,
        summary="Seal all secrets with a new data key, and forget the old one",
        tag="secrets",
        reply=DataKeyReply,
        errors=(ConflictError, *WRITE_ERRORS),
    ),
)
