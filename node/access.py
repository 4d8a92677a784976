"""API tokens and the audit as this node knows them: looked up, listed, made and revoked."""

from collections.abc import Awaitable, Callable

import trio

from consensus.driver import ReplicaDriver
from consensus.state.applying.tokens import api_token_problem
from consensus.state.cluster import ApiTokenRecord, AuditRecord, ClusterState, Outcome
from consensus.state.commands import CreateApiToken, RevokeApiToken
from node.changes import raise_refusal
from orca.errors import UnauthorizedError
from orca.model.access import ApiTokenView, AuditView, CreateApiTokenRequest
from orca.model.ids import LogIndex, RequestId, TokenId
from orca.model.trust import Author, TokenGrant
from orca.model.units import WallMs
from orca.sources import Clock, IdSource

PIECE = 1_000
"""Records of the audit looked at before others may run: well below a millisecond."""


class ApiTokens:
    """The cluster's API tokens, from this node's copy of the state."""

    def __init__(self, replica: ReplicaDriver, clock: Clock, ids: IdSource) -> None:
        self._replica = replica
        self._clock = clock
        self._ids = ids

    def admit(self, token: TokenId, secret_hash: bytes) -> TokenGrant:
        """What the token gives; raises UnauthorizedError for one that is unknown, wrong or expired."""
        problem = api_token_problem(self._replica.state, token, secret_hash, self._clock.wall())
        if problem:
            raise UnauthorizedError(problem)
        return _grant(self._replica.state.api_tokens[token])

    def grant(self, token: TokenId) -> TokenGrant | None:
        """What a token that was admitted gives now; None when it gives nothing any more."""
        record = self._replica.state.api_tokens.get(token)
        if record is None or _is_expired(record, self._clock.wall()):
            return None
        return _grant(record)

    def views(self) -> tuple[ApiTokenView, ...]:
        """All of them by name, expired ones too until they are forgotten."""
        now = self._clock.wall()
        found = sorted(self._replica.state.api_tokens.values(), key=lambda one: one.name)
        return tuple(_view(record, now) for record in found)

    async def create(self, request: CreateApiTokenRequest, *, by: Author) -> ApiTokenView:
        """Make it known, once for each request id. Raises ConflictError for a name that is taken."""
        now = self._clock.wall()
        expires_at_ms = None if request.ttl_s is None else WallMs(now + request.ttl_s * 1000)
        command = CreateApiToken(
            request_id=request.request_id or RequestId(self._ids.fresh()),
            at_ms=now,
            actor=by.actor,
            origin=by.origin,
            token=request.id,
            name=request.name,
            secret_hash=bytes.fromhex(request.secret_hash),
            role=request.role,
            projects=request.projects,
            expires_at_ms=expires_at_ms,
        )
        await self._propose(command)
        return ApiTokenView(
            id=request.id,
            name=request.name,
            role=request.role,
            created_at_ms=now,
            created_by=by.actor,
            projects=tuple(sorted(set(request.projects))),
            expires_at_ms=expires_at_ms,
        )

    async def revoke(self, token: TokenId, *, request_id: RequestId | None, by: Author) -> None:
        """Nobody is let in by it any more. Raises NotFoundError."""
        command = RevokeApiToken(
            request_id=request_id or RequestId(self._ids.fresh()),
            at_ms=self._clock.wall(),
            actor=by.actor,
            origin=by.origin,
            token=token,
        )
        await self._propose(command)

    async def _propose(self, command: CreateApiToken | RevokeApiToken) -> None:
        propose: Callable[[CreateApiToken | RevokeApiToken], Awaitable[Outcome]] = self._replica.propose
        raise_refusal(await propose(command))


def _is_expired(record: ApiTokenRecord, now: WallMs) -> bool:
    return record.expires_at_ms is not None and now >= record.expires_at_ms


def _grant(record: ApiTokenRecord) -> TokenGrant:
    return TokenGrant(token=record.id, name=record.name, role=record.role, projects=record.projects)


def _view(record: ApiTokenRecord, now: WallMs) -> ApiTokenView:
    return ApiTokenView(
        id=record.id,
        name=record.name,
        role=record.role,
        created_at_ms=record.created_at_ms,
        created_by=record.created_by,
        projects=record.projects,
        expires_at_ms=record.expires_at_ms,
        is_expired=_is_expired(record, now),
    )


async def audit_page(
    state: ClusterState,
    *,
    limit: int,
    before: LogIndex | None = None,
    since_ms: WallMs | None = None,
    actor: str | None = None,
    subject: str | None = None,
) -> tuple[AuditView, ...]:
    """The newest `limit` records below index `before`, oldest first, changes and refusals together.

    `actor` and `subject` choose those that have the text in them; `since_ms` those of then or later.
    """
    tables = sorted([*state.audit.items(), *state.refusals.items()], reverse=True, key=lambda item: item[0])
    found: list[AuditView] = []
    for number, (index, record) in enumerate(tables, start=1):
        if number % PIECE == 0:
            await trio.lowlevel.checkpoint()
        if (before is None or index < before) and _matches(record, since_ms, actor, subject):
            found.append(_audit_view(record))
            if len(found) == limit:
                break
    return tuple(reversed(found))


def _matches(record: AuditRecord, since_ms: WallMs | None, actor: str | None, subject: str | None) -> bool:
    return (
        (since_ms is None or record.at_ms >= since_ms)
        and (actor is None or actor in record.actor)
        and (subject is None or subject in record.subject)
    )


def _audit_view(record: AuditRecord) -> AuditView:
    return AuditView(
        index=record.index,
        at_ms=record.at_ms,
        actor=record.actor,
        origin=record.origin,
        action=record.action,
        subject=record.subject,
        result=record.result,
        message=record.message,
        count=record.count,
    )
