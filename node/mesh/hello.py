"""The first words on a mesh connection. Pure."""

import enum
from typing import Final, TypeAlias

import msgspec

from orca.errors import PeerProtocolError
from orca.model.ids import ClusterId, NodeId
from orca.wire import PROTOCOL_VERSION

HELLO_TIMEOUT_S: Final = 5.0
HELLO_BYTES_MAX: Final = 4096


class Purpose(enum.Enum):
    """What a connection is for."""

    RAFT = "raft"
    INTENT = "intent"
    CONTENT = "content"
    STANDING = "standing"
    FACTS = "facts"


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """Who connects, and what for. `to` is whom it thinks it has reached."""

    version: int = PROTOCOL_VERSION
    cluster: ClusterId
    node: NodeId
    to: NodeId
    purpose: Purpose


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    """Go on."""

    node: NodeId


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Not here: a code of `orca.errors`, and why."""

    code: str
    message: str


Greeting: TypeAlias = Hello | Welcome | Refused

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Greeting] = msgspec.msgpack.Decoder(Greeting)


def encode_greeting(greeting: Greeting) -> bytes:
    """Its payload in a frame."""
    return _encoder.encode(greeting)


def decode_greeting(payload: bytes) -> Greeting:
    """What `payload` says; raises PeerProtocolError for anything that is no greeting."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PeerProtocolError(f"the first frame of a mesh connection is no greeting: {error}") from error


def judge(hello: Hello, *, cluster: ClusterId, node: NodeId) -> Refused | None:
    """Why `hello` is turned away here; None for welcome."""
    if hello.version != PROTOCOL_VERSION:
        return Refused(
            code="peer_protocol",
            message=f"{node} speaks version {PROTOCOL_VERSION} of the mesh protocol, {hello.node} version "
            f"{hello.version}; update the older of them",
        )
    if hello.cluster != cluster:
        return Refused(
            code="forbidden", message=f"{node} belongs to cluster {cluster}, {hello.node} to {hello.cluster}"
        )
    if hello.to != node:
        return Refused(code="not_found", message=f"{hello.to} is looked for and {node} was found at its address")
    if hello.node == node:
        return Refused(code="conflict", message=f"{node} is the id of both ends; two nodes share one data directory")
    return None
