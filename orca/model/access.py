"""What a node shows of who may do what and who did what: API tokens and the audit."""

from typing import Annotated

import msgspec
from msgspec import Meta

from orca.model.ids import LogIndex, ProjectName, RequestId, TokenId
from orca.model.trust import ApiRole
from orca.model.units import WallMs
from orca.model.view import Observation

_Project = Annotated[ProjectName, Meta(min_length=1, max_length=128)]


class ApiTokenView(msgspec.Struct, frozen=True, kw_only=True):
    """An API token; its secret is known to nobody but who has it. No `projects` means all."""

    id: TokenId
    name: str
    role: ApiRole
    created_at_ms: WallMs
    created_by: str
    projects: tuple[ProjectName, ...] = ()
    expires_at_ms: WallMs | None = None
    is_expired: bool = False


class ApiTokensReply(msgspec.Struct, frozen=True, kw_only=True):
    """API tokens, by name."""

    observation: Observation
    tokens: tuple[ApiTokenView, ...]


class CreateApiTokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token that its maker has made: an id and the SHA-256 of its secret, in hex.

    The token itself is `orca-api-<id>-<secret>`, the secret 32 random bytes in lower-case base 32 without
    padding (52 characters); the hash is of these characters. No `ttl_s`: it never expires.
    """

    id: Annotated[TokenId, Meta(pattern=r"^[a-z2-7]{4,32}$")]
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    secret_hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    role: ApiRole
    projects: Annotated[tuple[_Project, ...], Meta(max_length=100)] = ()
    ttl_s: Annotated[int, Meta(ge=1, le=10 * 366 * 86_400)] | None = None
    request_id: RequestId | None = None


class AuditView(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked for what, from where, and what came of it.

    `result` is `ok` or an error's code; `count` how many like it this line stands for.
    """

    index: LogIndex
    at_ms: WallMs
    actor: str
    origin: str
    action: str
    subject: str
    result: str
    message: str = ""
    count: int = 1


class AuditReply(msgspec.Struct, frozen=True, kw_only=True):
    """Records, oldest first; ask again with `before` = the first one's index for those before them."""

    observation: Observation
    records: tuple[AuditView, ...]
