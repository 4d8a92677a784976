"""What gossip keeps over a restart: the peers with the clocks and our incarnation, and the keyring."""

from typing import Final

import msgspec

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
        self._environment.write_blocking(lambda view: self.put_keys(view, keys))

    async def keep_keys_soon(self, keys: tuple[bytes, ...]) -> None:
        """The same without stopping the loop."""
        await self._environment.write(lambda view: self.put_keys(view, keys))

    def put_keys(self, view: WriteView, keys: tuple[bytes, ...]) -> None:
        """The same as part of a larger write."""
        view.put(Database.LOCAL, _KEYS, seal(msgspec.msgpack.encode(keys), salt=_KEYS))

    def _read(self, key: bytes) -> bytes | None:
        return self._environment.read(lambda view: view.get(Database.LOCAL, key))
