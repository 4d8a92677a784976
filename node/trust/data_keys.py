"""The cluster's data keys as this node can open them, and what they seal: secrets, and the CA's private key."""

import os
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from consensus.state.cluster import ClusterState
from consensus.state.commands import PutAuthority, PutIngressAuthority
from consensus.state.records import AuthorityRecord
from node.trust.authority import Authority
from node.trust.duties import Wrapping, signing_authority
from node.trust.kept import Founding, NodeKeys
from node.trust.sealing import NONCE_BYTES, open_content, seal_content, unwrap_key, wrap_key
from orca.errors import NotAvailableError
from orca.model.ids import ClusterId, NodeId, RequestId, SecretId
from orca.model.units import WallMs

_SECRET: Final = "secret"  # noqa: S105 - what is sealed, not one
_AUTHORITY: Final = "private key of the CA"
_INGRESS: Final = "private key of the CA of the ingress"


class DataKeys:
    """Opens data keys with this node's own key and keeps those in memory, and nowhere else, once opened."""

    def __init__(self, cluster: ClusterId, keys: NodeKeys, state: Callable[[], ClusterState]) -> None:
        self.cluster = cluster
        self._keys = keys
        self._state = state
        self._opened: dict[int, tuple[bytes, bytes]] = {}

    @property
    def node(self) -> NodeId:
        """Whose keys open them here."""
        return self._keys.node

    @property
    def newest(self) -> int:
        """The newest version; 0 while there is none."""
        return max(self._state().data_keys, default=0)

    def can_open(self, version: int) -> bool:
        """Whether that key is wrapped for this node."""
        record = self._state().data_keys.get(version)
        return record is not None and self._keys.node in record.wrapped

    @property
    def can_sign(self) -> bool:
        """Whether this node can open the key of the CA that signs."""
        record = signing_authority(self._state())
        return record is not None and self.can_open(record.key_version)

    def key(self, version: int) -> bytes:
        """Data key `version`. Raises NotAvailableError on a node that it is not wrapped for."""
        record = self._state().data_keys.get(version)
        wrapped = None if record is None else record.wrapped.get(self._keys.node)
        if record is None or wrapped is None:
            raise NotAvailableError(
                f"this node cannot open data key {version}: it is a worker, or has just joined and is given it within "
                "seconds",
                hint="ask another node",
            )
        kept = self._opened.get(version)
        if kept is None or kept[0] != wrapped:
            private = X25519PrivateKey.from_private_bytes(self._keys.wrap_key)
            key = unwrap_key(wrapped, private, cluster=self.cluster, node=self._keys.node, version=version)
            kept = self._opened[version] = (wrapped, key)
        return kept[1]

    def wrap(self, key: bytes, recipient: bytes, node: NodeId, version: int) -> bytes:
        """Data key `version`, so that only `node` can open it."""
        ephemeral = X25519PrivateKey.generate()
        return wrap_key(key, recipient, ephemeral=ephemeral, cluster=self.cluster, node=node, version=version)

    def wrap_all(self, due: Wrapping) -> dict[NodeId, bytes]:
        """What `due` asks for. Raises NotAvailableError on a node that cannot open the key itself."""
        key = self.key(due.version)
        return {node: self.wrap(key, recipient, node, due.version) for node, recipient in due.wrap_for.items()}

    # ---------------------------------------------------------------------------------- secrets

    def seal(self, secret: SecretId, value: bytes) -> tuple[int, bytes]:
        """The version of the data key that is used, and the sealed value. Raises NotAvailableError."""
        version = self.newest
        return version, self._seal(self.key(version), value, _SECRET, secret, version)

    def open(self, secret: SecretId, key_version: int, ciphertext: bytes) -> bytes:
        """The value. Raises NotAvailableError without that key, StoreCorruptError for what is not this secret's."""
        return open_content(self.key(key_version), ciphertext, purpose=_SECRET, subject=secret, version=key_version)

    # ------------------------------------------------------------------------------ the authority

    def signing(self) -> Authority:
        """The CA that signs, with its private key. Raises NotAvailableError on a node that cannot open it."""
        record = signing_authority(self._state())
        if record is None:
            raise NotAvailableError("this cluster has no CA yet; its founder is about to put it there")
        return Authority(cluster=self.cluster, certificate=record.certificate, key=self._authority_key(record))

    @property
    def can_sign_for_ingress(self) -> bool:
        """Whether this node can open the key of the CA of served names."""
        record = self._state().ingress_authority
        return record is not None and self.can_open(record.key_version)

    def ingress_signing(self) -> Authority:
        """The CA of served names, with its private key. Raises NotAvailableError on a node that cannot open it."""
        record = self._state().ingress_authority
        if record is None:
            raise NotAvailableError("this cluster has no CA for served names yet; its leader is about to make one")
        key = self._authority_key(record, _INGRESS)
        return Authority(cluster=self.cluster, certificate=record.certificate, key=key)

    def _authority_key(self, record: AuthorityRecord, purpose: str = _AUTHORITY) -> bytes:
        return open_content(
            self.key(record.key_version),
            record.sealed_key,
            purpose=purpose,
            subject=record.fingerprint,
            version=record.key_version,
        )

    def reseal_authority(self, record: AuthorityRecord) -> bytes:
        """The private key of `record`'s CA, sealed under the newest data key. Raises NotAvailableError."""
        version = self.newest
        return self._seal(self.key(version), self._authority_key(record), _AUTHORITY, record.fingerprint, version)

    def put_authority(
        self, authority: Authority, *, at_ms: WallMs, actor: str, request_id: RequestId, cross: bytes = b"",
        origin: str = "", founding: Founding | None = None,
    ) -> PutAuthority:  # fmt: skip
        """The command that gives `authority` to the state, its key sealed; `founding`: before the data key is there."""
        version = 1 if founding is not None else self.newest
        key = self.key(version) if founding is None else founding.data_key
        return PutAuthority(
            request_id=request_id,
            at_ms=at_ms,
            actor=actor,
            origin=origin,
            authority=authority.fingerprint,
            certificate=authority.certificate,
            sealed_key=self._seal(key, authority.key, _AUTHORITY, authority.fingerprint, version),
            key_version=version,
            cross=cross,
        )

    def put_ingress_authority(
        self, authority: Authority, *, at_ms: WallMs, actor: str, request_id: RequestId
    ) -> PutIngressAuthority:
        """The command that gives `authority` to the state, for served names. Raises NotAvailableError."""
        version = self.newest
        return PutIngressAuthority(
            request_id=request_id,
            at_ms=at_ms,
            actor=actor,
            authority=authority.fingerprint,
            certificate=authority.certificate,
            sealed_key=self._seal(self.key(version), authority.key, _INGRESS, authority.fingerprint, version),
            key_version=version,
        )

    @staticmethod
    def _seal(key: bytes, content: bytes, purpose: str, subject: str, version: int) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return seal_content(key, content, purpose=purpose, subject=subject, version=version, nonce=nonce)
