"""Join tokens and API tokens: made, spent, revoked, and why one is not accepted."""

import hmac
from typing import Final, assert_never

import msgspec

from consensus.state.applying.results import (
    HASH_BYTES,
    NOTHING,
    TEXT_MAX,
    Done,
    Refusal,
    check_hash,
    check_room,
    check_text,
    check_time,
    touch,
)
from consensus.state.cluster import ClusterState
from consensus.state.commands import (
    CreateApiToken,
    CreateJoinToken,
    RedeemJoinToken,
    RevokeApiToken,
    RevokeJoinToken,
    TokenCommand,
)
from consensus.state.records import ApiTokenRecord, JoinTokenRecord, Redemption
from orca.model.ids import StateRevision, TokenId
from orca.model.trust import ApiRole
from orca.model.units import WallMs

TOKENS_MAX: Final = 1_000
USES_MAX: Final = 1_000
PROJECTS_MAX: Final = 100
EXPIRED_KEPT_MS: Final = 7 * 86_400_000
"""An expired token is kept for a week, so that who tries it learns that it expired."""


def apply_token(state: ClusterState, at: StateRevision, command: TokenCommand) -> Done:
    """Carry out a command about tokens."""
    match command:
        case CreateJoinToken():
            _create_join_token(state, command)
        case CreateApiToken():
            _create_api_token(state, command)
        case RevokeJoinToken():
            if state.join_tokens.pop(command.token, None) is None:
                raise Refusal("not_found", f"there is no join token {command.token}")
        case RevokeApiToken():
            if state.api_tokens.pop(command.token, None) is None:
                raise Refusal("not_found", f"there is no API token {command.token}")
        case _:
            assert_never(command)
    touch(state, at)
    return NOTHING


def _check_new(state: ClusterState, command: CreateJoinToken | CreateApiToken) -> None:
    check_text("the token's id", command.token)
    check_hash(f"token {command.token}", command.secret_hash)
    if command.token in state.join_tokens or command.token in state.api_tokens:
        raise Refusal("conflict", f"there is a token {command.token} already")
    if command.expires_at_ms is not None:
        check_time("the token's end", command.expires_at_ms)
        if command.expires_at_ms <= command.at_ms:
            raise Refusal("invalid_request", "the token would have expired already; give it a later end")


def _create_join_token(state: ClusterState, command: CreateJoinToken) -> None:
    _check_new(state, command)
    check_text("the note", command.note, length_max=TEXT_MAX, may_be_empty=True)
    if not 1 <= command.uses <= USES_MAX:
        raise Refusal("invalid_request", f"a join token for {command.uses} nodes cannot be; 1 to {USES_MAX} is right")
    limit = command.at_ms - EXPIRED_KEPT_MS
    kept = {name: one for name, one in state.join_tokens.items() if one.expires_at_ms > limit}
    check_room("join tokens", len(kept), TOKENS_MAX, "revoke some")
    kept[command.token] = JoinTokenRecord(
        id=command.token,
        secret_hash=command.secret_hash,
        role=command.role,
        uses_left=command.uses,
        expires_at_ms=command.expires_at_ms,
        created_at_ms=command.at_ms,
        created_by=command.actor,
        note=command.note,
    )
    state.join_tokens = kept


def _create_api_token(state: ClusterState, command: CreateApiToken) -> None:
    _check_new(state, command)
    check_text("the token's name", command.name)
    for project in command.projects:
        check_text("a project's name", project)
    if len(command.projects) > PROJECTS_MAX:
        raise Refusal("invalid_request", f"a token names at most {PROJECTS_MAX} projects")
    if command.role is ApiRole.ADMIN and command.projects:
        raise Refusal(
            "invalid_request", "an admin acts on the whole cluster; leave the projects out, or make it a deployer"
        )
    limit = command.at_ms - EXPIRED_KEPT_MS
    kept = {
        name: one for name, one in state.api_tokens.items() if one.expires_at_ms is None or one.expires_at_ms > limit
    }
    if any(one.name == command.name for one in kept.values()):
        raise Refusal("conflict", f"there is an API token called {command.name} already; revoke it or choose a name")
    check_room("API tokens", len(kept), TOKENS_MAX, "revoke some")
    kept[command.token] = ApiTokenRecord(
        id=command.token,
        name=command.name,
        secret_hash=command.secret_hash,
        role=command.role,
        created_at_ms=command.at_ms,
        created_by=command.actor,
        projects=tuple(sorted(dict.fromkeys(command.projects))),
        expires_at_ms=command.expires_at_ms,
    )
    state.api_tokens = kept


def join_token_problem(state: ClusterState, token: TokenId, secret_hash: bytes, at_ms: WallMs) -> str:
    """Why a join token cannot be accepted, empty when it can; whether uses are left is not asked.

    Also for a node that looks before it proposes, so that wrong tokens never reach the log.
    An unknown token and a wrong secret read alike and take as long: who guesses learns nothing.
    """
    record = state.join_tokens.get(token)
    is_right = hmac.compare_digest(bytes(HASH_BYTES) if record is None else record.secret_hash, secret_hash)
    if record is None or not is_right:
        return f"the join token {token} is not valid here: mistyped, revoked, or of another cluster; make a new one"
    if at_ms >= record.expires_at_ms:
        late_s = (at_ms - record.expires_at_ms) // 1000
        return f"the join token {token} expired {late_s} s ago; make a new one"
    return ""


def api_token_problem(state: ClusterState, token: TokenId, secret_hash: bytes, at_ms: WallMs) -> str:
    """Why an API token cannot be accepted at `at_ms`, empty when it can.

    It takes as long for an unknown token as for a wrong secret, and reads alike.
    """
    record = state.api_tokens.get(token)
    is_right = hmac.compare_digest(bytes(HASH_BYTES) if record is None else record.secret_hash, secret_hash)
    if record is None or not is_right:
        return "the API token is not valid: mistyped or revoked"
    if record.expires_at_ms is not None and at_ms >= record.expires_at_ms:
        return f"the API token {record.name} expired {(at_ms - record.expires_at_ms) // 1000} s ago; make a new one"
    return ""


def _is_repeated(token: JoinTokenRecord, command: RedeemJoinToken) -> bool:
    """Whether the same node came in by this token before, with the same key."""
    return any(one.node == command.node and one.key == command.key for one in token.redeemed)


def spend_join_token(state: ClusterState, command: RedeemJoinToken) -> JoinTokenRecord:
    """The token after `command`'s node has used it; the caller files it once all else is right."""
    problem = join_token_problem(state, command.token, command.secret_hash, command.at_ms)
    if problem:
        raise Refusal("forbidden", problem)
    token = state.join_tokens[command.token]
    # One that left is no node any more: it takes a use like everybody else.
    if command.node in state.nodes and _is_repeated(token, command):
        return token
    if token.uses_left < 1:
        by = ", ".join(one.node for one in token.redeemed[-3:])
        raise Refusal("forbidden", f"the join token {token.id} is used up (by {by}); make a new one")
    redemption = Redemption(node=command.node, key=command.key, at_ms=command.at_ms)
    return msgspec.structs.replace(token, uses_left=token.uses_left - 1, redeemed=(*token.redeemed, redemption))
