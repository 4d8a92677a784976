"""The keyring and the seal: AES-GCM with 128, 192 or 256 bits (WIRE.md §3.5)."""

from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gossip.codec.dialect import CodecError

KEY_LENGTHS: Final = (16, 24, 32)
KEYS_MAX: Final = 16
"""Every packet that cannot be opened is tried with each: a long ring makes noise expensive."""
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = 1 + NONCE_BYTES + TAG_BYTES
"""Of version 1, the one that is written."""
_BLOCK_BYTES: Final = 16


class Keyring:
    """Keys that open, the first of which seals.

    `nonce` gives twelve bytes that it gives only once for each key: from a secure random
    source, which is good for about 2^32 messages a key.
    """

    def __init__(self, keys: Sequence[bytes], nonce: Callable[[], bytes]) -> None:
        """Raises ValueError without keys, and for a key of a wrong length."""
        if not keys:
            raise ValueError("a keyring needs at least one key")
        self._nonce = nonce
        self._keys: dict[bytes, AESGCM] = {}
        for key in keys:
            self.install(key)
        self._primary = bytes(keys[0])

    @property
    def primary(self) -> bytes:
        """The key that seals."""
        return self._primary

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All keys, the primary one first."""
        return (self._primary, *(key for key in self._keys if key != self._primary))

    def install(self, key: bytes) -> None:
        """Open with `key` too. Raises ValueError for a wrong length, or when the ring is full."""
        if len(key) not in KEY_LENGTHS:
            raise ValueError(f"key size must be 16, 24 or 32 bytes, not {len(key)}")
        if key in self._keys:
            return
        if len(self._keys) >= KEYS_MAX:
            raise ValueError(f"the keyring holds {KEYS_MAX} keys already; remove one first")
        self._keys[bytes(key)] = AESGCM(key)

    def use(self, key: bytes) -> None:
        """Seal with `key` from now on. Raises ValueError when it was not installed."""
        if key not in self._keys:
            raise ValueError("Requested key is not in the keyring")
        self._primary = bytes(key)

    def remove(self, key: bytes) -> None:
        """Open with `key` no longer. Raises ValueError for the primary one; an unknown one is gone already."""
        if key == self._primary:
            raise ValueError("Removing the primary key is not allowed")
        self._keys.pop(key, None)

    def seal(self, plain: bytes, associated: bytes) -> bytes:
        """`plain` for holders of the primary key, bound to `associated`."""
        nonce = self._nonce()
        return b"\x01" + nonce + self._keys[self._primary].encrypt(nonce, plain, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """What was sealed with any key of the ring. Raises CodecError."""
        if len(sealed) < OVERHEAD_BYTES:
            raise CodecError("truncated", f"{len(sealed)} bytes cannot be sealed")
        version = sealed[0]
        if version > 1:
            raise CodecError("seal_version", f"version {version} of the seal")
        nonce, body = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        for key in self.keys:
            try:
                plain = self._keys[key].decrypt(nonce, body, associated)
            except InvalidTag:
                continue
            return plain if version else _unpadded(plain)
        raise CodecError("undecryptable", "no key of the ring opens it")


def _unpadded(plain: bytes) -> bytes:
    """Without the PKCS#7 padding of version 0."""
    count = plain[-1] if plain else 0
    if not 1 <= count <= _BLOCK_BYTES or plain[-count:] != bytes((count,)) * count:
        raise CodecError("bad_padding")
    return plain[:-count]
