"""Tokens and authorities of the small node in memory."""

import msgspec

from orca.errors import ConflictError, NotFoundError, RemovedError
from orca.model.ids import NodeId, StateRevision, TokenId
from orca.model.trust import Author, AuthorityState
from orca.model.trust_view import (
    AuthoritiesReply,
    AuthorityView,
    CreateTokenRequest,
    JoinTokenView,
    NodeRemoval,
    TokenReply,
    TokensReply,
)
from orca.model.units import WallMs
from orca.model.view import Observation

MADE = f"orca-{'a' * 26}-bbbbbbbb-{'c' * 26}"


class FakeTrust:
    """Remembers tokens; knows one other node, `n2`."""

    def __init__(self) -> None:
        self.made: dict[str, JoinTokenView] = {}
        self.has_left = False
        self.removal = ""

    def _observation(self) -> Observation:
        return Observation(observer=NodeId("n-test"), at_ms=WallMs(1), state_revision=StateRevision(1))

    def check_member(self) -> None:
        if self.removal:
            raise RemovedError(self.removal, hint="join anew")

    async def create_token(self, request: CreateTokenRequest, *, by: Author) -> TokenReply:
        number = TokenId(f"token{len(self.made)}")
        self.made[number] = JoinTokenView(
            id=number,
            role=request.role,
            uses_left=request.uses,
            created_at_ms=WallMs(1),
            created_by=by.actor,
            expires_at_ms=WallMs(2),
            is_expired=False,
            note=request.note,
        )
        return TokenReply(
            observation=self._observation(),
            token=MADE,
            id=number,
            role=request.role,
            uses=request.uses,
            expires_at_ms=WallMs(2),
            peer="127.0.0.1:6881",
        )

    def tokens(self) -> TokensReply:
        return TokensReply(observation=self._observation(), tokens=tuple(self.made.values()))

    async def revoke_token(self, token: TokenId, *, by: Author) -> None:
        if self.made.pop(token, None) is None:
            raise NotFoundError(f"there is no join token {token}")

    async def remove_node(self, name: str, *, is_forced: bool, by: Author) -> NodeRemoval:
        if name != "n2":
            raise NotFoundError(f"there is no node {name}")
        if not is_forced:
            raise ConflictError("n2 is to run 1 copies; drain it first")
        return NodeRemoval(observation=self._observation(), node=NodeId("n-2"), name=name, notes=("gone",))

    async def leave(self, *, is_forced: bool) -> None:
        if not is_forced:
            raise ConflictError("this is the only node of its cluster, so there is nothing to leave")
        self.has_left = True

    def authorities(self) -> AuthoritiesReply:
        view = AuthorityView(
            fingerprint="ab" * 32,
            token_fingerprint="a" * 26,
            state=AuthorityState.SIGNING,
            created_at_ms=WallMs(1),
            certificate="-----BEGIN CERTIFICATE-----",
            nodes=1,
        )
        return AuthoritiesReply(
            observation=self._observation(),
            authorities=(view,),
            ingress="-----BEGIN CERTIFICATE-----\nof the ingress\n",
        )

    async def rotate(self, *, by: Author) -> AuthoritiesReply:
        return self.authorities()

    async def rotate_ingress(self, *, by: Author) -> AuthoritiesReply:
        return msgspec.structs.replace(self.authorities(), ingress="-----BEGIN CERTIFICATE-----\nthe next one\n")
