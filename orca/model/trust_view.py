"""What the API says and takes about join tokens, the CA and who belongs to the cluster."""

import msgspec

from orca.model.ids import NodeId, TokenId
from orca.model.trust import AuthorityState, NodeRole
from orca.model.units import WallMs
from orca.model.view import Observation


class _View(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an answer."""


class CreateTokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A join token for `uses` nodes, good for `ttl_s` seconds."""

    uses: int = 1
    ttl_s: float = 3600.0
    role: NodeRole = NodeRole.MEMBER
    note: str = ""


class TokenReply(_View, frozen=True):
    """A token that was just made. `token` is shown this once; `peer` is where it may be used, the node asked."""

    observation: Observation
    token: str
    id: TokenId
    role: NodeRole
    uses: int
    expires_at_ms: WallMs
    peer: str

    def __repr__(self) -> str:
        return f"TokenReply(id={self.id})"


class JoinTokenView(_View, frozen=True):
    """A join token without its secret; `nodes` came in by it."""

    id: TokenId
    role: NodeRole
    uses_left: int
    created_at_ms: WallMs
    created_by: str
    expires_at_ms: WallMs
    is_expired: bool
    nodes: tuple[str, ...] = ()
    note: str = ""


class TokensReply(_View, frozen=True):
    """All join tokens that are remembered, the newest first; an expired one for a week."""

    observation: Observation
    tokens: tuple[JoinTokenView, ...]


class NodeRemoval(_View, frozen=True):
    """A node that was removed, and what to think of beside that."""

    observation: Observation
    node: NodeId
    name: str
    notes: tuple[str, ...] = ()


class LeaveReply(_View, frozen=True):
    """The node that was asked has left; it stops now."""

    observation: Observation


class LeaveNodeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Leave; with `force` although copies are to run there."""

    force: bool = False


class AuthorityView(_View, frozen=True):
    """A CA of the cluster; `nodes` have a certificate of it, `token_fingerprint` stands in its join tokens."""

    fingerprint: str
    token_fingerprint: str
    state: AuthorityState
    created_at_ms: WallMs
    certificate: str
    nodes: int


class AuthoritiesReply(_View, frozen=True):
    """The CAs that are believed, newest first; while one follows another, the nodes that are waited for.

    `ingress` is the certificate (PEM) of the CA that signs for served names, empty while there is none.
    """

    observation: Observation
    authorities: tuple[AuthorityView, ...]
    is_changing: bool = False
    waiting: tuple[str, ...] = ()
    ingress: str = ""
