"""API tokens in a real state, and who belongs to the cluster, for a small node in memory."""

import hashlib
from collections.abc import Callable

import trio

from consensus.state.applying.tokens import api_token_problem
from consensus.state.cluster import ApiTokenRecord, ClusterState
from orca.errors import ConflictError, NotFoundError, UnauthorizedError
from orca.model.access import ApiTokenView, CreateApiTokenRequest
from orca.model.api_token import ApiToken, make_api_token
from orca.model.ids import NodeId, ProjectName, RequestId, TokenId
from orca.model.trust import ApiRole, Author, NodeRole, TokenGrant
from orca.model.trust_view import AuthoritiesReply, CreateTokenRequest, NodeRemoval, TokenReply, TokensReply
from orca.model.units import WallMs
from orca.model.view import Observation


class FakeTokens:
    """API tokens in a real state, without a log."""

    def __init__(self) -> None:
        self.state = ClusterState()
        self.at_ms = WallMs(1_000)

    def add(self, name: str, role: ApiRole, *projects: str, expires_at_ms: int | None = None) -> ApiToken:
        token = make_api_token(TokenId(name.ljust(4, "x")), hashlib.sha256(name.encode()).digest())
        self.state.api_tokens[token.id] = ApiTokenRecord(
            id=token.id,
            name=name,
            secret_hash=token.secret_hash,
            role=role,
            created_at_ms=WallMs(0),
            created_by="test",
            projects=tuple(map(ProjectName, projects)),
            expires_at_ms=None if expires_at_ms is None else WallMs(expires_at_ms),
        )
        return token

    def admit(self, token: TokenId, secret_hash: bytes) -> TokenGrant:
        problem = api_token_problem(self.state, token, secret_hash, self.at_ms)
        if problem:
            raise UnauthorizedError(problem)
        found = self.grant(token)
        assert found is not None
        return found

    def grant(self, token: TokenId) -> TokenGrant | None:
        record = self.state.api_tokens.get(token)
        if record is None or (record.expires_at_ms is not None and self.at_ms >= record.expires_at_ms):
            return None
        return TokenGrant(token=record.id, name=record.name, role=record.role, projects=record.projects)

    def views(self) -> tuple[ApiTokenView, ...]:
        return tuple(
            ApiTokenView(id=one.id, name=one.name, role=one.role, created_at_ms=WallMs(0), created_by="test")
            for one in self.state.api_tokens.values()
        )

    async def create(self, request: CreateApiTokenRequest, *, by: Author) -> ApiTokenView:
        await trio.lowlevel.checkpoint()
        self.state.api_tokens[request.id] = ApiTokenRecord(
            id=request.id,
            name=request.name,
            secret_hash=bytes.fromhex(request.secret_hash),
            role=request.role,
            created_at_ms=WallMs(0),
            created_by=by.actor,
            projects=request.projects,
        )
        return self.views()[-1]

    async def revoke(self, token: TokenId, *, request_id: RequestId | None, by: Author) -> None:
        await trio.lowlevel.checkpoint()
        if self.state.api_tokens.pop(token, None) is None:
            raise NotFoundError(f"there is no API token {token}")


class FakeTrust:
    """One join token, one other node, one CA; `calls` has what was changed, and by whom."""

    def __init__(self, observation: Callable[[], Observation]) -> None:
        self._observation = observation
        self.calls: list[tuple[str, str]] = []

    async def _note(self, what: str, by: Author) -> None:
        await trio.lowlevel.checkpoint()
        self.calls.append((what, by.actor))

    async def create_token(self, request: CreateTokenRequest, *, by: Author) -> TokenReply:
        await self._note("create_token", by)
        return TokenReply(
            observation=self._observation(),
            token="orca-ca-id-secret",
            id=TokenId("id"),
            role=NodeRole.MEMBER,
            uses=request.uses,
            expires_at_ms=WallMs(1),
            peer="10.0.0.1:6881",
        )

    def tokens(self) -> TokensReply:
        return TokensReply(observation=self._observation(), tokens=())

    async def revoke_token(self, token: TokenId, *, by: Author) -> None:
        await self._note("revoke_token", by)
        raise NotFoundError(f"there is no join token {token}")

    async def remove_node(self, name: str, *, is_forced: bool, by: Author) -> NodeRemoval:
        await self._note("remove_node", by)
        if not is_forced:
            raise ConflictError(f"{name} has copies")
        return NodeRemoval(observation=self._observation(), node=NodeId("n-2"), name=name)

    async def leave(self, *, is_forced: bool) -> None:
        await self._note(f"leave {is_forced}", Author(actor=""))

    def authorities(self) -> AuthoritiesReply:
        return AuthoritiesReply(observation=self._observation(), authorities=())

    async def rotate(self, *, by: Author) -> AuthoritiesReply:
        await self._note("rotate", by)
        return self.authorities()
