"""Commands about tokens, authorities, sealed secrets and webhooks. None of them carries a plaintext secret."""

from typing import TypeAlias

import msgspec

from consensus.state.commands.base import Change, Part
from orca.model.ids import NodeId, ProjectName, SecretId, ServiceId, StateRevision, TokenId, WebhookId
from orca.model.trust import ApiRole, NodeRole
from orca.model.units import WallMs


class CreateJoinToken(Change, frozen=True, kw_only=True, tag="create_join_token"):
    """A token that lets `uses` nodes in until `expires_at_ms`; `secret_hash` is a SHA-256."""

    token: TokenId
    secret_hash: bytes
    expires_at_ms: WallMs
    uses: int = 1
    role: NodeRole = NodeRole.MEMBER
    note: str = ""


class RevokeJoinToken(Change, frozen=True, kw_only=True, tag="revoke_join_token"):
    """Nobody joins by this token any more."""

    token: TokenId


class CreateApiToken(Change, frozen=True, kw_only=True, tag="create_api_token"):
    """A token for the API; no `projects` means all of them, no `expires_at_ms` never."""

    token: TokenId
    name: str
    secret_hash: bytes
    role: ApiRole
    projects: tuple[ProjectName, ...] = ()
    expires_at_ms: WallMs | None = None


class RevokeApiToken(Change, frozen=True, kw_only=True, tag="revoke_api_token"):
    """Nobody is let in by this token any more."""

    token: TokenId


class PutAuthority(Change, frozen=True, kw_only=True, tag="put_authority"):
    """A certificate authority that every node believes from now on; the first one signs at once.

    For one that is there already: its private key sealed anew, under a data key that is not older.
    `sealed_key` is nonce, private key and tag, under data key `key_version`.
    """

    authority: str
    certificate: bytes
    sealed_key: bytes
    key_version: int
    cross: bytes = b""


class PutIngressAuthority(Change, frozen=True, kw_only=True, tag="put_ingress_authority"):
    """The authority that signs for served names, where there is none yet; no node is believed by it.

    For the one that is there: its private key sealed anew, under a data key that is not older. One that is there
    already is replaced only where `replaces` names it.
    """

    authority: str
    certificate: bytes
    sealed_key: bytes
    key_version: int
    replaces: str = ""


class SignBy(Change, frozen=True, kw_only=True, tag="sign_by"):
    """New certificates are signed by this authority; what others signed is believed as before."""

    authority: str


class DropAuthority(Change, frozen=True, kw_only=True, tag="drop_authority"):
    """Nobody believes this authority any more, nor any certificate that it signed.

    Refused while it signs, and while a node has no certificate of another one, unless `is_forced`.
    """

    authority: str
    is_forced: bool = False


class PutDataKey(Change, frozen=True, kw_only=True, tag="put_data_key"):
    """A new version of the cluster's data key, wrapped for each node that may open it."""

    version: int
    wrapped: dict[NodeId, bytes]


class WrapDataKey(Change, frozen=True, kw_only=True, tag="wrap_data_key"):
    """Let more nodes open a data key (`wrapped`), or fewer (`unwrap`)."""

    version: int
    wrapped: dict[NodeId, bytes] = msgspec.field(default_factory=dict)
    unwrap: tuple[NodeId, ...] = ()


class DropDataKey(Change, frozen=True, kw_only=True, tag="drop_data_key"):
    """Forget a data key that seals no secret any more and is not the newest."""

    version: int


class SealedEntry(Part, frozen=True, kw_only=True):
    """A sealed value: `ciphertext` is nonce, content and tag, under data key `key_version`.

    With `expected` the secret must be at that version (0: must not exist).
    """

    secret: SecretId
    key_version: int
    ciphertext: bytes
    expected: StateRevision | None = None


class PutSecrets(Change, frozen=True, kw_only=True, tag="put_secrets"):
    """Set secrets, all or none; each gets a new version."""

    entries: tuple[SealedEntry, ...]


class ResealSecrets(Change, frozen=True, kw_only=True, tag="reseal_secrets"):
    """The same values under a newer data key, all or none; versions stay, `expected` is required."""

    entries: tuple[SealedEntry, ...]


class DeleteSecrets(Change, frozen=True, kw_only=True, tag="delete_secrets"):
    """Forget secrets, all or none."""

    secrets: tuple[SecretId, ...]


class CreateWebhook(Change, frozen=True, kw_only=True, tag="create_webhook"):
    """Who calls the webhook with its secret deploys `service`; `branch` narrows which pushes count."""

    webhook: WebhookId
    service: ServiceId
    secret_hash: bytes
    branch: str = ""


class RemoveWebhook(Change, frozen=True, kw_only=True, tag="remove_webhook"):
    """The webhook answers nobody any more."""

    webhook: WebhookId


TokenCommand: TypeAlias = CreateJoinToken | RevokeJoinToken | CreateApiToken | RevokeApiToken
AuthorityCommand: TypeAlias = PutAuthority | PutIngressAuthority | SignBy | DropAuthority
SecretCommand: TypeAlias = PutDataKey | WrapDataKey | DropDataKey | PutSecrets | ResealSecrets | DeleteSecrets
WebhookCommand: TypeAlias = CreateWebhook | RemoveWebhook
