"""The keys that seal this node's gossip: kept in its store, changed while it runs."""

import base64
import os
from collections.abc import Callable

from gossip.codec import Keyring
from gossip.codec.sealing import KEYS_MAX
from node.membership.kept import KeptGossip
from orca.config import GossipSection
from orca.errors import InvalidRequestError


class GossipRing:
    """The ring of one node; empty until it is loaded, and where gossip is not sealed."""

    def __init__(self, config: GossipSection, kept: KeptGossip) -> None:
        self._config = config
        self._kept = kept
        self.codec_ring: Keyring | None = None
        """What seals and opens packets."""
        self._newest: bytes | None = None

    def load(self) -> None:
        """Take the kept keys, and the configured one among them. Blocks; raises StoreCorruptError."""
        keys = list(self._kept.keys())
        if self._config.key and (raw := base64.b64decode(self._config.key)) not in keys:
            keys.append(raw)
        self.codec_ring = Keyring(keys, lambda: os.urandom(12)) if keys and self._config.encrypt else None

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys, the one that seals first."""
        return () if self.codec_ring is None else self.codec_ring.keys

    @property
    def offered(self) -> tuple[bytes, ...]:
        """The keys for somebody who has none: the newest first, which is about to seal."""
        if self._newest not in self.keys or self._newest is None:
            return self.keys
        return (self._newest, *(key for key in self.keys if key != self._newest))

    async def install(self, key: bytes) -> None:
        """Open with `key` too, from now on and after a restart; of more keys than a ring holds the last one goes."""
        self._newest = key
        await self._change(lambda ring: _install(ring, key))

    async def withdraw(self, key: bytes) -> None:
        """Open with `key` no longer, unless it seals by now."""
        self._newest = None
        await self._change(lambda ring: _withdraw(ring, key))

    async def use(self, key: bytes) -> None:
        """Seal with `key`."""
        await self._change(lambda ring: _use(ring, key))

    async def remove_others(self, key: bytes) -> None:
        """Open with no other key than `key`; nothing when another one seals by now."""
        await self._change(lambda ring: _remove_others(ring, key))

    async def _change(self, change: Callable[[Keyring], None]) -> None:
        if self.codec_ring is not None:
            change(self.codec_ring)
            await self._kept.keep_keys_soon(self.codec_ring.keys)


def _install(ring: Keyring, key: bytes) -> None:
    if key not in ring.keys and len(ring.keys) >= KEYS_MAX:
        ring.remove(ring.keys[-1])
    ring.install(key)


def _use(ring: Keyring, key: bytes) -> None:
    _install(ring, key)  # somebody may have removed it meanwhile
    ring.use(key)


def _withdraw(ring: Keyring, key: bytes) -> None:
    if ring.primary != key:
        ring.remove(key)


def _remove_others(ring: Keyring, key: bytes) -> None:
    for one in ring.keys if ring.primary == key else ():
        if one != key:
            ring.remove(one)


def raw_key(key: str) -> bytes:
    """The key that `key` (base64) spells, a fresh one for nothing. Raises InvalidRequestError."""
    if not key:
        return os.urandom(32)
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError:
        raw = b""
    if len(raw) not in {16, 24, 32}:
        raise InvalidRequestError("the key is no base64 of 16, 24 or 32 bytes")
    return raw
