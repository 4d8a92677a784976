"""What two nodes say to each other in a join, and what a member is asked over the mesh. Pure.

Join, inside TLS, which the joiner enters without a certificate: `Offer`, `JoinRequest`, then `JoinAnswer` or
`TrustRefused`. The offer comes first, so that the joiner knows whom it talks to before it says anything.

Over the mesh (purpose `trust`) the peer is known already: `RenewRequest` gets `Renewed`, `KeysRequest` gets
`GossipKeys`, `SeatRequest` gets `Seat`, `LeaveRequest` gets `Left`; any of them may get `TrustRefused`.
"""

from typing import Final, TypeAlias

import msgspec

from orca.errors import OrcaError, PeerProtocolError, error_classes
from orca.model.ids import ClusterId, NodeId, TokenId
from orca.model.node import NodeAddresses
from orca.model.units import WallMs

JOIN_VERSION: Final = 1
REQUEST_BYTES_MAX: Final = 32 * 1024
ANSWER_BYTES_MAX: Final = 1024 * 1024
PEERS_MAX: Final = 16


class _Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message; fields that a release does not know are ignored, tags that it does not know are refused."""


class Offer(_Message, frozen=True, kw_only=True, tag="offer"):
    """Who is joined: its cluster, the certificates of that one's authorities (DER), and its clock."""

    version: int = JOIN_VERSION
    cluster: ClusterId
    authorities: tuple[bytes, ...]
    cross: tuple[bytes, ...] = ()
    wall_ms: WallMs


class JoinRequest(_Message, frozen=True, kw_only=True, tag="join"):
    """Who wants to join, and the secret of its token."""

    version: int = JOIN_VERSION
    token: TokenId
    secret: str
    csr: bytes
    wrap_key: bytes
    node: NodeId
    name: str
    addresses: NodeAddresses
    schema: int
    release: str
    wall_ms: WallMs

    def __repr__(self) -> str:
        return f"JoinRequest(node={self.node}, name={self.name!r}, token={self.token})"


class PeerAddress(_Message, frozen=True, kw_only=True):
    """Where a node of the cluster is, to be found again after a restart."""

    node: NodeId
    mesh: str = ""
    gossip: str = ""


class JoinAnswer(_Message, frozen=True, kw_only=True, tag="joined"):
    """All that a new node needs. The certificate is in the state by now."""

    cluster: ClusterId
    certificate: bytes
    authorities: tuple[bytes, ...]
    cross: tuple[bytes, ...] = ()
    gossip_keys: tuple[bytes, ...] = ()
    gossip_key_version: int = 0
    peers: tuple[PeerAddress, ...] = ()

    def __repr__(self) -> str:
        return f"JoinAnswer(cluster={self.cluster}, peers={len(self.peers)})"


class TrustRefused(_Message, frozen=True, kw_only=True, tag="refused"):
    """No: a code of `orca.errors`, why, and what would be right."""

    code: str
    message: str
    hint: str = ""


class RenewRequest(_Message, frozen=True, kw_only=True, tag="renew"):
    """A new certificate for the one who asks."""

    csr: bytes


class Renewed(_Message, frozen=True, kw_only=True, tag="renewed"):
    """Here it is; the state has it."""

    certificate: bytes


class KeysRequest(_Message, frozen=True, kw_only=True, tag="gossip_keys"):
    """Asks which keys seal gossip now."""


class GossipKeys(_Message, frozen=True, kw_only=True, tag="keys"):
    """They do, primary first."""

    keys: tuple[bytes, ...]
    version: int

    def __repr__(self) -> str:
        return f"GossipKeys({len(self.keys)}, version={self.version})"


class SeatRequest(_Message, frozen=True, kw_only=True, tag="give_up_seat"):
    """Who asks is about to leave: let the leader give its seat to somebody else."""


class Seat(_Message, frozen=True, kw_only=True, tag="seat"):
    """Whether the one who asked is still part of the group."""

    is_seated: bool


class LeaveRequest(_Message, frozen=True, kw_only=True, tag="leave"):
    """Take the one who asks out of the cluster."""

    is_forced: bool = False


class Left(_Message, frozen=True, kw_only=True, tag="left"):
    """It is no node of the cluster any more."""


Message: TypeAlias = (
    Offer
    | JoinRequest
    | JoinAnswer
    | TrustRefused
    | RenewRequest
    | Renewed
    | KeysRequest
    | GossipKeys
    | SeatRequest
    | Seat
    | LeaveRequest
    | Left
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """Its payload in a frame."""
    return _encoder.encode(message)


def decode_message(payload: bytes) -> Message:
    """What `payload` says; raises PeerProtocolError for anything that no release says."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PeerProtocolError(f"a message about trust cannot be read: {error}") from error


def refusal_of(error: OrcaError) -> TrustRefused:
    """How the other side is told."""
    return TrustRefused(code=error.code, message=error.message, hint=error.hint)


def error_of(refused: TrustRefused) -> OrcaError:
    """The error that the other side met."""
    return error_classes().get(refused.code, OrcaError)(refused.message, hint=refused.hint)
