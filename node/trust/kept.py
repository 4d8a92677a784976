"""What a node keeps of its trust over restarts, in its store; none of it ever leaves the node but the certificate."""

from typing import Final, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from node.store.environment import Environment
from node.store.records import seal, unseal
from node.store.views import Database, ReadView, WriteView
from node.trust.authority import encode_key
from node.trust.messages import PeerAddress
from orca.errors import StoreCorruptError
from orca.model.ids import NodeId
from orca.model.units import WallMs
from orca.sources import IdSource

T = TypeVar("T", bound=msgspec.Struct)
_KEYS: Final = b"trust/keys"
_OWN: Final = b"trust/own"
_FOUNDING: Final = b"trust/founding"


class NodeKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Made once, with the id that they belong to: a P-256 key for TLS (DER) and an X25519 key to unwrap with."""

    node: NodeId
    tls_key: bytes
    wrap_key: bytes

    @property
    def wrap_public(self) -> bytes:
        """What data keys are wrapped for."""
        return X25519PrivateKey.from_private_bytes(self.wrap_key).public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"NodeKeys(node={self.node})"


class OwnTrust(msgspec.Struct, frozen=True, kw_only=True):
    """What this node shows, and whom it believed when it came in.

    `peers`, `gossip_key_version`: where the others were, and which gossip keys it was given.
    """

    certificate: bytes
    authorities: tuple[bytes, ...]
    cross: tuple[bytes, ...] = ()
    peers: tuple[PeerAddress, ...] = ()
    gossip_key_version: int = 0
    has_left: bool = False


class Founding(msgspec.Struct, frozen=True, kw_only=True):
    """What a founder made and the state does not have yet; forgotten as soon as it has."""

    authority_key: bytes
    data_key: bytes
    made_at_ms: WallMs

    def __repr__(self) -> str:
        return "Founding()"


def make_keys(node: NodeId) -> NodeKeys:
    """Fresh keys for `node`."""
    return NodeKeys(
        node=node,
        tls_key=encode_key(ec.generate_private_key(ec.SECP256R1())),
        wrap_key=X25519PrivateKey.generate().private_bytes_raw(),
    )


class KeptTrust:
    """Records in the node's store. Writes block, and are on disk when they return; they raise StoreFullError."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def start_keys(self, ids: IdSource, node: NodeId | None = None) -> NodeKeys:
        """The keys, made where there are none: for `node`, or for a new id. Raises StoreCorruptError."""
        made = make_keys(node or NodeId(f"n-{ids.fresh()}"))

        def start(view: WriteView) -> NodeKeys:
            kept = self._read(view, _KEYS, NodeKeys)
            if kept is None:
                self._put(view, _KEYS, made)
            return kept or made

        return self._environment.write_blocking(start)

    def own(self) -> OwnTrust | None:
        """None before the node has belonged to a cluster. Raises StoreCorruptError."""
        return self._environment.read(lambda view: self._read(view, _OWN, OwnTrust))

    def keep_own(self, own: OwnTrust) -> None:
        """Replace it."""
        self._environment.write_blocking(lambda view: self.put_own(view, own))

    def put_own(self, view: WriteView, own: OwnTrust) -> None:
        """The same as part of a larger write."""
        self._put(view, _OWN, own)

    def founding(self) -> Founding | None:
        """None once the state has what was made. Raises StoreCorruptError."""
        return self._environment.read(lambda view: self._read(view, _FOUNDING, Founding))

    def start_founding(self, made: Founding, own: OwnTrust) -> None:
        """Keep what a founder made, all in one write; what was kept before stays."""

        def start(view: WriteView) -> None:
            if self._read(view, _FOUNDING, Founding) is None:
                self._put(view, _FOUNDING, made)
                self._put(view, _OWN, own)

        self._environment.write_blocking(start)

    async def forget_founding(self) -> None:
        """The state has it all: the CA's key is nowhere in clear from now on."""

        def forget(view: WriteView) -> None:
            view.delete(Database.LOCAL, _FOUNDING)

        await self._environment.write(forget)

    async def keep_own_soon(self, own: OwnTrust) -> None:
        """Replace it without stopping the loop."""
        await self._environment.write(lambda view: self.put_own(view, own))

    def _put(self, view: WriteView, key: bytes, record: msgspec.Struct) -> None:
        view.put(Database.LOCAL, key, seal(msgspec.msgpack.encode(record), salt=key))

    def _read(self, view: ReadView, key: bytes, kind: type[T]) -> T | None:
        record = view.get(Database.LOCAL, key)
        if record is None:
            return None
        what = f"{key.decode()} in {self._environment.data_path}"
        try:
            return msgspec.msgpack.decode(unseal(record, what, salt=key), type=kind)
        except msgspec.DecodeError as error:
            raise StoreCorruptError(f"{what} cannot be read: {error}") from error
