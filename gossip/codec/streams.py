"""Streams: push/pull, reliable user messages, pings (WIRE.md §5). One message a direction."""

from collections.abc import Generator
from typing import Any, Final

import msgpack
import msgspec

from gossip.codec.dialect import (
    CodecError,
    Fields,
    as_fields,
    blob,
    flag,
    host_bytes,
    host_text,
    pack,
    text,
    to_raw,
    uint,
)
from gossip.codec.frames import (
    ACK,
    COMPRESS,
    ENCRYPT,
    ERROR,
    HAS_LABEL,
    PING,
    PUSH_PULL,
    USER,
    encode_message,
    read_ack,
    read_meta,
    read_ping,
    read_version,
)
from gossip.codec.lzw import compress, expanding
from gossip.codec.packets import PacketCodec, compressed_bytes
from gossip.codec.sealing import OVERHEAD_BYTES
from gossip.messages import (
    Ack,
    Address,
    Ping,
    PushPull,
    PushPullNode,
    StreamError,
    StreamMessage,
    User,
    WireState,
)

STREAM_BYTES_MAX: Final = 20 * 2**20
"""memberlist's own limit on what is sealed; two thousand members with large tags are 1 MiB."""
EXPANDED_BYTES_MAX: Final = 8 * 2**20
"""Decompression is slow enough to be felt: 8 MiB are twenty thousand members."""
NODES_MAX: Final = 32_768
ERROR_BYTES_MAX: Final = 1024
COMPRESSED_FROM_BYTES: Final = 512
"""Less fits the packet that the stream costs anyhow."""
_COMPRESSED_MAX: Final = 24 * 1024
"""More would keep the loop for longer than 5 ms: beyond some 250 members bytes are cheaper than that."""
_HEADER_TEXT_MAX: Final = 4096

_NODES_A_TURN: Final = 128
"""Of a push/pull: some 2 ms."""

_Turns = Generator[bool, bytes, "StreamMessage | None"]
"""Yields True to let others run; it goes on without more bytes."""
_Needs = Generator[bool, bytes, StreamMessage]
"""The same, and yields False when it needs more bytes first."""


def encode_stream(message: StreamMessage, codec: PacketCodec) -> bytes:
    """All bytes of one side of a stream."""
    plain = _plain(message)
    is_worth_it = COMPRESSED_FROM_BYTES <= len(plain) <= _COMPRESSED_MAX
    if isinstance(message, PushPull) and message.is_compressed and is_worth_it:
        plain = bytes((COMPRESS,)) + pack({"Algo": 0, "Buf": compress(plain)})
    label = bytes((HAS_LABEL, len(codec.label))) + codec.label if codec.label else b""
    if codec.keyring is None:
        return label + plain
    head = bytes((ENCRYPT,)) + (OVERHEAD_BYTES + len(plain)).to_bytes(4, "big")
    return label + head + codec.keyring.seal(plain, head + codec.label)


def _plain(message: StreamMessage) -> bytes:
    match message:
        case PushPull():
            header = pack(
                {"Nodes": len(message.nodes), "UserStateLen": len(message.user_state), "Join": message.is_join}
            )
            return b"".join((bytes((PUSH_PULL,)), header, *map(_node, message.nodes), message.user_state))
        case User():
            return bytes((USER,)) + pack({"UserMsgLen": len(message.payload)}) + message.payload
        case StreamError():
            return bytes((ERROR,)) + pack({"Error": to_raw(message.message)})
        case Ping() | Ack():
            return encode_message(message)


def _node(node: PushPullNode) -> bytes:
    return pack(
        {
            "Name": to_raw(node.node),
            "Addr": host_bytes(node.address.host),
            "Port": node.address.port,
            "Meta": node.meta,
            "Incarnation": node.incarnation,
            "State": int(node.state),
            "Vsn": node.version,
        }
    )


class StreamReader:
    """Collects the bytes of one side of a stream until they are a message.

    What comes after the message is ignored. After a CodecError the stream is of no use.
    """

    def __init__(self, codec: PacketCodec) -> None:
        self._codec = codec
        self._size = 0
        self._head = bytearray()
        self._plain: _PlainReader | None = None

    def feed(self, data: bytes) -> StreamMessage | None:
        """The message as soon as it is whole. Raises CodecError when it never will be."""
        turns = self.feeding(data)
        while True:
            try:
                next(turns)
            except StopIteration as end:
                found: StreamMessage | None = end.value
                return found

    def feeding(self, data: bytes) -> _Turns:
        """`feed` in turns of a few milliseconds, whatever the size; yields True after each."""
        self._size += len(data)
        if self._size > STREAM_BYTES_MAX + _HEADER_TEXT_MAX:
            raise CodecError("too_large", f"more than {STREAM_BYTES_MAX} bytes on a stream")
        if self._plain is not None:
            return (yield from self._plain.feeding(data))
        self._head += data
        return (yield from self._unwrap())

    def _unwrap(self) -> _Turns:
        """Label and seal, while they stand in front."""
        codec = self._codec
        label_bytes = 2 + len(codec.label) if codec.label else 0
        if len(self._head) < max(1, label_bytes):
            if codec.label and self._head and self._head[0] != HAS_LABEL:
                raise CodecError("bad_label", "a stream without a label")
            return None
        codec.unlabelled(bytes(self._head[: label_bytes + 1]))
        head = bytes(self._head[label_bytes : label_bytes + 5])
        if not head:
            return None
        is_sealed = head[0] == ENCRYPT
        if codec.keyring is None or (not is_sealed and not codec.verifies_incoming):
            if is_sealed:
                raise CodecError("sealed", "a sealed stream came, and this cluster has no key")
            body = bytes(self._head[label_bytes:])
            self._head.clear()
            self._plain = _PlainReader()
            return (yield from self._plain.feeding(body))
        if not is_sealed:
            raise CodecError("plain", "a plain stream came, and this cluster has a key")
        if len(head) < 5:
            return None
        length = int.from_bytes(head[1:5], "big")
        if length > STREAM_BYTES_MAX:
            raise CodecError("too_large", f"{length} sealed bytes are announced")
        place = label_bytes + 5
        if len(self._head) < place + length:
            return None
        plain = codec.keyring.open(bytes(self._head[place : place + length]), head + codec.label)
        return (yield from _PlainReader().reading(plain, "sealed"))


class _PlainReader:
    """The message behind label and seal, read as it comes.

    Nothing that it holds points back at it, so that what half a message takes is free as soon as the reader is.
    """

    def __init__(self, depth: int = 0) -> None:
        self._parser = _Parser(depth)
        self._parse: _Needs | None = None

    def feeding(self, data: bytes) -> _Turns:
        """The message when it is whole."""
        try:
            if self._parse is None:
                if not data:
                    return None
                self._parse, data = self._parser.parse(data[0]), data[1:]
            self._parser.unpacker.feed(data)
            while next(self._parse):
                yield True
        except StopIteration as end:
            found: StreamMessage = end.value
            return found
        except msgpack.BufferFull as error:
            raise CodecError("too_large") from error
        return None

    def reading(self, data: bytes, what: str) -> _Needs:
        """The message in `data`, which is all there is."""
        message = yield from self.feeding(data)
        if message is None:
            raise CodecError("truncated", f"the {what} message is not whole")
        return message


class _Parser:
    """What is done with the bytes that the unpacker has."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self.unpacker = msgpack.Unpacker(
            raw=True,
            strict_map_key=False,
            use_list=False,
            max_buffer_size=STREAM_BYTES_MAX + 2 * _HEADER_TEXT_MAX,
            max_array_len=NODES_MAX,
            max_map_len=1024,
            max_str_len=STREAM_BYTES_MAX,
            max_bin_len=STREAM_BYTES_MAX,
            max_ext_len=_HEADER_TEXT_MAX,
        )

    def parse(self, kind: int) -> _Needs:
        """A message of that kind; raises CodecError when there is none."""
        match kind:
            case 6:
                return self._push_pull()
            case 8:
                return self._user()
            case 9:
                return self._compressed()
            case 0 | 2 | 13:
                return self._single(kind)
            case _:
                raise CodecError("unknown_type", f"type {kind} on a stream")

    def _value(self) -> Generator[bool, bytes, Any]:
        """The next msgpack value."""
        while True:
            try:
                return self.unpacker.unpack()
            except msgpack.OutOfData:
                pass
            except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
                raise CodecError("bad_msgpack", str(error)) from error
            yield False

    def _struct(self) -> Generator[bool, bytes, Fields]:
        return as_fields((yield from self._value()))

    def _bytes(self, count: int) -> Generator[bool, bytes, bytes]:
        """The next `count` bytes as they are."""
        pieces: list[bytes] = []
        while count:
            piece = self.unpacker.read_bytes(count)
            pieces.append(piece)
            count -= len(piece)
            if count:
                yield False
        return b"".join(pieces)

    def _push_pull(self) -> _Needs:
        header = yield from self._struct()
        count, state_bytes = uint(header, b"Nodes"), uint(header, b"UserStateLen")
        if count > NODES_MAX or state_bytes > STREAM_BYTES_MAX:
            raise CodecError("too_large", f"{count} nodes and {state_bytes} bytes of state are announced")
        nodes = []
        for number in range(1, count + 1):
            nodes.append(_read_node((yield from self._struct())))
            if number % _NODES_A_TURN == 0:
                yield True
        state = yield from self._bytes(state_bytes)
        return PushPull(nodes=tuple(nodes), user_state=state, is_join=flag(header, b"Join"))

    def _user(self) -> _Needs:
        header = yield from self._struct()
        length = uint(header, b"UserMsgLen")
        if length > STREAM_BYTES_MAX:
            raise CodecError("too_large", f"a user message of {length} bytes is announced")
        return User(payload=(yield from self._bytes(length)))

    def _single(self, kind: int) -> _Needs:
        fields = yield from self._struct()
        if kind == PING:
            return read_ping(fields)
        if kind == ACK:
            return read_ack(fields)
        return StreamError(message=text(fields, b"Error", ERROR_BYTES_MAX))

    def _compressed(self) -> _Needs:
        if self._depth:
            raise CodecError("too_many", "a compression inside a compression")
        fields = yield from self._struct()
        plain = yield from expanding(compressed_bytes(fields), EXPANDED_BYTES_MAX)
        message = yield from _PlainReader(self._depth + 1).reading(plain, "compressed")
        return msgspec.structs.replace(message, is_compressed=True) if isinstance(message, PushPull) else message


def _read_node(fields: Fields) -> PushPullNode:
    state = uint(fields, b"State", 8)
    if state not in _STATES:
        raise CodecError("bad_state", f"state {state}")
    return PushPullNode(
        node=text(fields, b"Name"),
        address=Address(host_text(blob(fields, b"Addr")), uint(fields, b"Port", 16)),
        meta=read_meta(fields),
        incarnation=uint(fields, b"Incarnation"),
        state=WireState(state),
        version=read_version(fields),
    )


_STATES: Final = frozenset(map(int, WireState))

__all__ = ["COMPRESS", "StreamReader", "encode_stream"]
