"""Join tokens, nodes that go, and the CA: handlers and routes of all that decides who belongs to the cluster."""

from typing import Final

import msgspec

from node.api.call import CHANGE_ERRORS, WRITE_ERRORS, BodyKind, Call, NoBody, NoQuery, Route
from node.api.params import ForceQuery
from orca.errors import ConflictError, NotFoundError
from orca.http import Response
from orca.model.ids import TokenId
from orca.model.trust_view import (
    AuthoritiesReply,
    CreateTokenRequest,
    LeaveNodeRequest,
    LeaveReply,
    NodeRemoval,
    TokenReply,
    TokensReply,
)


async def create_token(call: Call[NoQuery, CreateTokenRequest]) -> TokenReply:
    """`POST /v1/tokens`."""
    return await call.control.trust.create_token(call.body, by=call.author)


async def list_tokens(call: Call[NoQuery, NoBody]) -> TokensReply:
    """`GET /v1/tokens`."""
    return call.control.trust.tokens()


async def revoke_token(call: Call[NoQuery, NoBody]) -> Response:
    """`DELETE /v1/tokens/{token}`."""
    await call.control.trust.revoke_token(TokenId(call.path["token"]), by=call.author)
    return Response(status=204)


async def remove_node(call: Call[ForceQuery, NoBody]) -> NodeRemoval:
    """`DELETE /v1/nodes/{node}`."""
    return await call.control.trust.remove_node(call.path["node"], is_forced=call.query.force, by=call.author)


async def leave(call: Call[NoQuery, LeaveNodeRequest]) -> LeaveReply:
    """`POST /v1/leave`: answers when the node is out; it stops shortly after."""
    await call.control.trust.leave(is_forced=call.body.force)
    return LeaveReply(observation=call.control.observation())


async def show_authorities(call: Call[NoQuery, NoBody]) -> AuthoritiesReply:
    """`GET /v1/ca`."""
    return call.control.trust.authorities()


class RotateQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which CA: that of the nodes, or that of served names."""

    ingress: bool = False


async def rotate_authority(call: Call[RotateQuery, NoBody]) -> AuthoritiesReply:
    """`POST /v1/ca/rotate`: answers when the change has begun; the rest happens by itself."""
    trust = call.control.trust
    return await (trust.rotate_ingress(by=call.author) if call.query.ingress else trust.rotate(by=call.author))


TRUST_ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/tokens",
        handler=list_tokens,
        summary="Join tokens, without their secrets",
        tag="trust",
        reply=TokensReply,
    ),
    Route(
        method="POST",
        path="/v1/tokens",
        handler=create_token,
        summary="Make a join token; its text is in this answer and nowhere else",
        tag="trust",
        reply=TokenReply,
        status=201,
        body=BodyKind.JSON_OR_EMPTY,
        request=CreateTokenRequest,
        errors=(ConflictError, *WRITE_ERRORS),
    ),
    Route(
        method="DELETE",
        path="/v1/tokens/{token}",
        handler=revoke_token,
        summary="Let nobody join by it any more",
        tag="trust",
        status=204,
        reply_media="",
        errors=(NotFoundError, *WRITE_ERRORS),
        variables={"token": "the token's id, the third part of its text"},
    ),
    Route(
        method="DELETE",
        path="/v1/nodes/{node}",
        handler=remove_node,
        summary="Remove a node for ever: its certificates and its identity are void everywhere within seconds",
        tag="trust",
        reply=NodeRemoval,
        query=ForceQuery,
        errors=CHANGE_ERRORS,
        variables={"node": "the node's name or id"},
    ),
    Route(
        method="POST",
        path="/v1/leave",
        handler=leave,
        summary="Take the node that is asked out of its cluster; it stops then",
        tag="trust",
        reply=LeaveReply,
        body=BodyKind.JSON_OR_EMPTY,
        request=LeaveNodeRequest,
        errors=(ConflictError, *WRITE_ERRORS),
    ),
    Route(
        method="GET",
        path="/v1/ca",
        handler=show_authorities,
        summary="The cluster's certificate authorities, and how far a change of them is",
        tag="trust",
        reply=AuthoritiesReply,
    ),
    Route(
        method="POST",
        path="/v1/ca/rotate",
        handler=rotate_authority,
        summary="Begin a change of the certificate authority; nodes get new certificates by themselves",
        tag="trust",
        reply=AuthoritiesReply,
        query=RotateQuery,
        errors=(ConflictError, *WRITE_ERRORS),
    ),
)
