"""What nodes say to each other before a copy stops, and how long they wait for it. Pure."""

from typing import Final

import msgspec

from orca.errors import PeerProtocolError
from orca.model.ids import AllocationId, LogIndex, NodeId

UNROUTED_S: Final = 3.0
"""How long a node has to learn that the copy is to stop; intent reaches it in milliseconds."""
GRACE_S: Final = 2.0
TIMEOUT_S_MAX: Final = 3600.0
UNROUTED: Final = b"\x01"
"""The first answer: no request of mine begins there any more."""
DRAINED: Final = b"\x02"
"""The second answer: none of mine is on its way there."""


class Farewell(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: to let go of a copy, and to end what is on its way within `timeout_s`.

    Entry `after` of the log says that the copy stops. A node that is not that far may not even have learned that the
    copy exists, and would begin to send requests there after it said that it sends none.
    """

    allocation: AllocationId
    timeout_s: float
    after: LogIndex = LogIndex(0)

    @property
    def allowed_s(self) -> float:
        """So long the asked node lets its requests go on, whatever the peer asks for."""
        return min(max(0.0, self.timeout_s), TIMEOUT_S_MAX)

    @property
    def more_s(self) -> float:
        """So much longer the asking node waits once it has the first answer."""
        return self.timeout_s + GRACE_S


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Farewell] = msgspec.msgpack.Decoder(Farewell)


def encode_farewell(farewell: Farewell) -> bytes:
    """Its payload in a frame."""
    return _encoder.encode(farewell)


def decode_farewell(peer: NodeId, payload: bytes) -> Farewell:
    """What `peer` asks. Raises PeerProtocolError for what is no question."""
    try:
        return _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise PeerProtocolError(f"{peer} asks to let go of something that cannot be read: {error}") from error
