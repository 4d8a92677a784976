"""Content sealed under a data key, and data keys wrapped for a node. Pure: nonces and key pairs are given.

Sealed content is a nonce (12 bytes), the content and a tag (AES-256-GCM). Its purpose, what it belongs to and
the version of the key are bound to it, so that one ciphertext never passes for another.

A data key is wrapped for one node by a fresh X25519 pair: the shared secret, through HKDF-SHA256 over both
public keys, gives a key and a nonce that are used once. Cluster, node and version are bound to it.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orca.errors import StoreCorruptError
from orca.model.ids import ClusterId, NodeId

DATA_KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
PUBLIC_BYTES: Final = 32


def seal_content(key: bytes, content: bytes, *, purpose: str, subject: str, version: int, nonce: bytes) -> bytes:
    """`content` sealed under data key `version`; `nonce` is 12 random bytes, never used before with this key."""
    assert len(nonce) == NONCE_BYTES, f"a nonce of {len(nonce)} bytes"
    return nonce + AESGCM(key).encrypt(nonce, content, _bound("seal", purpose, subject, str(version)))


def open_content(key: bytes, sealed: bytes, *, purpose: str, subject: str, version: int) -> bytes:
    """What was sealed. Raises StoreCorruptError for anything that was not sealed for just this."""
    try:
        return AESGCM(key).decrypt(
            sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _bound("seal", purpose, subject, str(version))
        )
    except (InvalidTag, ValueError) as error:
        raise StoreCorruptError(
            f"the {purpose} of {subject} cannot be opened with data key {version}: "
            "it was damaged, or was sealed for something else; set it again"
        ) from error


def wrap_key(
    data_key: bytes, recipient: bytes, *, ephemeral: X25519PrivateKey, cluster: ClusterId, node: NodeId, version: int
) -> bytes:
    """`data_key` so that only the holder of `recipient`'s private key opens it; `ephemeral` is used once."""
    public = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
    key, nonce = _derive(shared, public, recipient)
    return public + AESGCM(key).encrypt(nonce, data_key, _bound("wrap", cluster, node, str(version)))


def unwrap_key(wrapped: bytes, private: X25519PrivateKey, *, cluster: ClusterId, node: NodeId, version: int) -> bytes:
    """The data key. Raises StoreCorruptError when it was not wrapped for this node, cluster and version."""
    public, content = wrapped[:PUBLIC_BYTES], wrapped[PUBLIC_BYTES:]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(public))
        key, nonce = _derive(shared, public, private.public_key().public_bytes_raw())
        return AESGCM(key).decrypt(nonce, content, _bound("wrap", cluster, node, str(version)))
    except (InvalidTag, ValueError) as error:
        raise StoreCorruptError(
            f"data key {version} was not wrapped for {node} of {cluster}, or was damaged; "
            "let another member wrap it anew"
        ) from error


def _derive(shared: bytes, ephemeral: bytes, recipient: bytes) -> tuple[bytes, bytes]:
    made = HKDF(
        algorithm=SHA256(), length=DATA_KEY_BYTES + NONCE_BYTES, salt=ephemeral + recipient, info=b"orca data key"
    ).derive(shared)
    return made[:DATA_KEY_BYTES], made[DATA_KEY_BYTES:]


def _bound(*parts: str) -> bytes:
    """The parts with their lengths, so that no two lists of parts give the same bytes."""
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in ("orca", *parts))
