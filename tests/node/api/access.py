"""API tokens in a real state, and who belongs to the cluster, for a small node in memory."""

import hashlib

import trio

from consensus.state.applying.tokens import api_token_problem
from consensus.state.cluster import ApiTokenRecord, ClusterState
from orca.errors import NotFoundError, UnauthorizedError
from orca.model.access import ApiTokenView, CreateApiTokenRequest
from orca.model.api_token import ApiToken, make_api_token
from orca.model.ids import ProjectName, RequestId, TokenId
from orca.model.trust import ApiRole, Author, TokenGrant
from orca.model.units import WallMs


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
