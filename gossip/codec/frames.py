"""Single messages of memberlist: a type byte and a body (WIRE.md §2)."""

from collections.abc import Callable
from typing import Any, Final

from gossip.codec.dialect import CodecError, Fields, blob, flag, host_bytes, host_text, pack, text, to_raw, uint, unpack
from gossip.messages import (
    Ack,
    Address,
    Alive,
    Dead,
    IndirectPing,
    Nack,
    PacketMessage,
    Ping,
    Suspect,
    User,
)

PING: Final = 0
INDIRECT_PING: Final = 1
ACK: Final = 2
SUSPECT: Final = 3
ALIVE: Final = 4
DEAD: Final = 5
PUSH_PULL: Final = 6
COMPOUND: Final = 7
USER: Final = 8
COMPRESS: Final = 9
ENCRYPT: Final = 10
NACK: Final = 11
HAS_CRC: Final = 12
ERROR: Final = 13
HAS_LABEL: Final = 244

META_BYTES_MAX: Final = 1300
"""Senders keep to 512; real agents take more, up to what a packet carries."""
ACK_BYTES_MAX: Final = 1300


def encode_message(message: PacketMessage) -> bytes:
    """Type byte and body."""
    match message:
        case Ping():
            return b"\x00" + pack({"SeqNo": message.sequence, "Node": to_raw(message.node), **_source(message)})
        case Ack():
            payload = {"Payload": message.payload} if message.payload else {}
            return b"\x02" + pack({"SeqNo": message.sequence, **payload})
        case User():
            return b"\x08" + message.payload
        case Alive():
            return b"\x04" + pack(
                {
                    "Incarnation": message.incarnation,
                    "Node": to_raw(message.node),
                    "Addr": host_bytes(message.address.host),
                    "Port": message.address.port,
                    "Meta": message.meta,
                    "Vsn": message.version,
                }
            )
        case Suspect():
            return b"\x03" + _accusation(message)
        case Dead():
            return b"\x05" + _accusation(message)
        case IndirectPing():
            return b"\x01" + pack(
                {
                    "SeqNo": message.sequence,
                    "Target": host_bytes(message.target.host),
                    "Port": message.target.port,
                    "Node": to_raw(message.node),
                    "Nack": message.wants_nack,
                    **_source(message),
                }
            )
        case Nack():
            return b"\x0b" + pack({"SeqNo": message.sequence})


def decode_message(frame: bytes) -> PacketMessage:
    """The message in `frame`; raises CodecError."""
    if not frame:
        raise CodecError("empty")
    if frame[0] == USER:
        return User(payload=frame[1:])
    decode = _DECODERS.get(frame[0])
    if decode is None:
        raise CodecError("unknown_type", f"type {frame[0]}")
    return decode(unpack(memoryview(frame)[1:]))


def _source(message: Ping | IndirectPing) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if message.source is not None:
        fields["SourceAddr"] = host_bytes(message.source.host)
        fields["SourcePort"] = message.source.port
    if message.source_node:
        fields["SourceNode"] = to_raw(message.source_node)
    return fields


def _accusation(message: Suspect | Dead) -> bytes:
    return pack({"Incarnation": message.incarnation, "Node": to_raw(message.node), "From": to_raw(message.accuser)})


def _read_source(fields: Fields) -> Address | None:
    host, port = blob(fields, b"SourceAddr"), uint(fields, b"SourcePort", 16)
    return Address(host_text(host), port) if host and port else None


def read_ping(fields: Fields) -> Ping:
    """A ping, in a packet or on a stream."""
    return Ping(
        sequence=uint(fields, b"SeqNo"),
        node=text(fields, b"Node"),
        source=_read_source(fields),
        source_node=text(fields, b"SourceNode"),
    )


def read_ack(fields: Fields) -> Ack:
    """An ack, in a packet or on a stream."""
    payload = blob(fields, b"Payload")
    if len(payload) > ACK_BYTES_MAX:
        raise CodecError("too_long", f"an ack with {len(payload)} bytes")
    return Ack(sequence=uint(fields, b"SeqNo"), payload=payload)


def _read_indirect_ping(fields: Fields) -> IndirectPing:
    return IndirectPing(
        sequence=uint(fields, b"SeqNo"),
        target=Address(host_text(blob(fields, b"Target")), uint(fields, b"Port", 16)),
        node=text(fields, b"Node"),
        wants_nack=flag(fields, b"Nack"),
        source=_read_source(fields),
        source_node=text(fields, b"SourceNode"),
    )


def _read_alive(fields: Fields) -> Alive:
    return Alive(
        incarnation=uint(fields, b"Incarnation"),
        node=text(fields, b"Node"),
        address=Address(host_text(blob(fields, b"Addr")), uint(fields, b"Port", 16)),
        meta=read_meta(fields),
        version=read_version(fields),
    )


def read_meta(fields: Fields) -> bytes:
    """The encoded tags of a member."""
    meta = blob(fields, b"Meta")
    if len(meta) > META_BYTES_MAX:
        raise CodecError("too_long", f"tags of {len(meta)} bytes")
    return meta


def read_version(fields: Fields) -> bytes:
    """Six bytes, or fewer of an old peer; what is too short for the rules is the machine's to judge."""
    version = blob(fields, b"Vsn")
    if len(version) > 6:
        raise CodecError("bad_version", f"versions of {len(version)} bytes")
    return version


def _read_suspect(fields: Fields) -> Suspect:
    return Suspect(incarnation=uint(fields, b"Incarnation"), node=text(fields, b"Node"), accuser=text(fields, b"From"))


def _read_dead(fields: Fields) -> Dead:
    return Dead(incarnation=uint(fields, b"Incarnation"), node=text(fields, b"Node"), accuser=text(fields, b"From"))


def _read_nack(fields: Fields) -> Nack:
    return Nack(sequence=uint(fields, b"SeqNo"))


_DECODERS: Final[dict[int, Callable[[Fields], PacketMessage]]] = {
    PING: read_ping,
    INDIRECT_PING: _read_indirect_ping,
    ACK: read_ack,
    SUSPECT: _read_suspect,
    ALIVE: _read_alive,
    DEAD: _read_dead,
    NACK: _read_nack,
}
