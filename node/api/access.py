"""`/v1/api-tokens` and `/v1/audit`: who may do what, and who did what."""

from node.api.call import Call, NoBody, NoQuery
from node.api.params import AuditQuery, ReadQuery, RevokeQuery
from orca.http import Response
from orca.model.access import ApiTokensReply, ApiTokenView, AuditReply, CreateApiTokenRequest
from orca.model.ids import LogIndex, TokenId
from orca.model.units import WallMs


async def create_api_token(call: Call[NoQuery, CreateApiTokenRequest]) -> ApiTokenView:
    """`POST /v1/api-tokens`: the maker has the secret, and the cluster its hash."""
    call.subject = f"token {call.body.id}"
    return await call.control.tokens.create(call.body, by=call.author)


async def list_api_tokens(call: Call[ReadQuery, NoBody]) -> ApiTokensReply:
    """`GET /v1/api-tokens`."""
    return ApiTokensReply(observation=call.control.observation(), tokens=call.control.tokens.views())


async def revoke_api_token(call: Call[RevokeQuery, NoBody]) -> Response:
    """`DELETE /v1/api-tokens/{id}`."""
    token = TokenId(call.path["id"])
    await call.control.tokens.revoke(token, request_id=call.query.request_id, by=call.author)
    return Response(status=204)


async def list_audit(call: Call[AuditQuery, NoBody]) -> AuditReply:
    """`GET /v1/audit`: changes and refusals, as far as they are kept."""
    query = call.query
    records = await call.control.audit(
        limit=query.limit,
        before=None if query.before is None else LogIndex(query.before),
        since_ms=None if query.since_ms is None else WallMs(query.since_ms),
        actor=query.actor,
        subject=query.subject,
    )
    return AuditReply(observation=call.control.observation(), records=records)
