"""Secrets: handlers of `/v1/secrets`. Values come in, and none ever goes out."""

from node.api.call import Call, NoBody, NoQuery
from node.api.params import SecretQuery, SecretsQuery
from orca.model.ids import SecretId
from orca.model.secret_view import DataKeyReply, SecretsChangeReply, SecretsReply, SetSecretsRequest


async def list_secrets(call: Call[SecretsQuery, NoBody]) -> SecretsReply:
    """`GET /v1/secrets`."""
    control = call.control
    return SecretsReply(observation=control.observation(), secrets=control.secrets.list(call.query.project))


async def set_secrets(call: Call[NoQuery, SetSecretsRequest]) -> SecretsChangeReply:
    """`PUT /v1/secrets`."""
    control, request = call.control, call.body
    changed, changes = await control.secrets.set(
        request.values, request_id=control.request_id(request.request_id), actor=call.actor
    )
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
    await control.secrets.remove((secret,), request_id=control.request_id(call.query.request_id), actor=call.actor)
    return SecretsChangeReply(observation=control.observation(), changed=(secret,))


async def rotate_data_key(call: Call[NoQuery, NoBody]) -> DataKeyReply:
    """`POST /v1/secrets/rotate`: answers when nothing is sealed with the old key any more."""
    control = call.control
    version, secrets = await control.secrets.rotate(actor=call.actor)
    return DataKeyReply(observation=control.observation(), version=version, secrets=secrets)
