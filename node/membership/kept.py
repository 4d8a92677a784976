"""What gossip keeps over a restart: the peers with the clocks and our incarnation, and the keyring."""

import base64
import os
from typing import Final

import msgspec

from gossip.codec import Keyring
from gossip.serf import PersistPeers
from node.store.environment import Environment
from node.store.records import seal, unseal
from node.store.views import Database, WriteView
from orca.errors import StoreCorruptError

_PEERS: Final = b"gossip/peers"
_KEYS: Final = b"gossip/keys"


class KeptGossip:
    """Records in the node's store."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def peers(self) -> PersistPeers | None:
        """What the last `PersistPeers` held; None in a new store, or when it cannot be read any more.

        Losing it costs nothing but a quicker return, so it is not worth refusing to start for.
        """
        record = self._read(_PEERS)
        if record is None:
            return None
        try:
            return msgspec.msgpack.decode(unseal(record, "the known peers", salt=_PEERS), type=PersistPeers)
        except (msgspec.MsgspecError, StoreCorruptError):
            return None

    async def keep_peers(self, peers: PersistPeers) -> None:
        """Replace them. Raises StoreFullError."""
        record = seal(msgspec.msgpack.encode(peers), salt=_PEERS)

        def write(view: WriteView) -> None:
            view.put(Database.LOCAL, _PEERS, record)

        await self._environment.write(write)

    def keys(self) -> tuple[bytes, ...]:
        """The keyring, primary first; () when none was kept. Raises StoreCorruptError."""
        record = self._read(_KEYS)
        if record is None:
            return ()
        try:
            return msgspec.msgpack.decode(unseal(record, "the gossip keys", salt=_KEYS), type=tuple[bytes, ...])
        except msgspec.MsgspecError as error:
            raise StoreCorruptError(f"the gossip keys in {self._environment.data_path} cannot be read") from error

    def keep_keys(self, keys: tuple[bytes, ...]) -> None:
        """Replace them; on disk when it returns. Blocks for one write. Raises StoreFullError."""
        record = seal(msgspec.msgpack.encode(keys), salt=_KEYS)

        def write(view: WriteView) -> None:
            view.put(Database.LOCAL, _KEYS, record)

        self._environment.write_blocking(write)

    def _read(self, key: bytes) -> bytes | None:
        return self._environment.read(lambda view: view.get(Database.LOCAL, key))


def make_ring(configured: str, kept: tuple[bytes, ...]) -> Keyring | None:
    """The kept keys, with the configured one (base64) among them; None without any."""
    keys = list(kept)
    if configured:
        raw = base64.b64decode(configured)
        if raw not in keys:
            keys.append(raw)
    return Keyring(keys, lambda: os.urandom(12)) if keys else None
