"""Serf's RPC as bytes: values of msgpack one after the other, nothing around them.

A request is a header `{Command, Seq}` and, for most commands, a body; a reply is a header
`{Seq, Error}` and, for some, a body. Nothing tells where a value ends but the value itself,
and nothing tells whether a body follows but the command: a reader that loses count is lost
for good. What cannot be read raises `CodecError`, and nothing else does.

We write strings and bytes as msgpack of 2013 does (str8, bin), as Serf's agents and clients
do here; all of them, and we, read the older raw family for both as well.
"""

from typing import Any, Final, NamedTuple, TypeAlias

import msgpack

from gossip.codec.dialect import CodecError, Fields, as_fields, text, uint

__all__ = [
    "AUTH_REQUIRED",
    "CLIENT_LIMITS",
    "COMMANDS_WITH_BODY",
    "COMMANDS_WITH_REPLY",
    "COMMANDS_WITH_STREAM",
    "DUPLICATE_HANDSHAKE",
    "GREETING_LIMITS",
    "HANDSHAKE_REQUIRED",
    "INVALID_AUTH",
    "INVALID_FILTER",
    "INVALID_QUERY",
    "MONITOR_EXISTS",
    "RPC_VERSION",
    "SERVER_LIMITS",
    "STREAM_EXISTS",
    "UNSUPPORTED_COMMAND",
    "UNSUPPORTED_VERSION",
    "CodecError",
    "Fields",
    "Limits",
    "ReplyHeader",
    "RequestHeader",
    "ValueReader",
    "decode_reply_header",
    "decode_request_header",
    "encode_reply_header",
    "encode_request_header",
    "pack_list_head",
    "pack_map_head",
    "pack_value",
]

RPC_VERSION: Final = 1
COMMANDS_WITH_BODY: Final = frozenset(
    {
        "handshake", "auth", "event", "force-leave", "join", "members-filtered", "stream", "monitor", "stop",
        "install-key", "use-key", "remove-key", "tags", "query", "respond", "get-coordinate",
    }
)  # fmt: skip
"""Requests that have a body; `members`, `leave`, `list-keys` and `stats` have none."""
COMMANDS_WITH_REPLY: Final = frozenset(
    {
        "join", "members", "members-filtered", "install-key", "use-key", "remove-key", "list-keys", "stats",
        "get-coordinate",
    }
)  # fmt: skip
"""Whose replies have a body, also when the header carries an error of the command itself."""
COMMANDS_WITH_STREAM: Final = frozenset({"stream", "monitor", "query"})
"""Whose reply may be followed by any number of headers of the same number, each with a record."""

# Serf's own words: its command line shows them, and its clients compare them.
UNSUPPORTED_COMMAND: Final = "Unsupported command"
UNSUPPORTED_VERSION: Final = "Unsupported IPC version"
DUPLICATE_HANDSHAKE: Final = "Handshake already performed"
HANDSHAKE_REQUIRED: Final = "Handshake required"
MONITOR_EXISTS: Final = "Monitor already exists"
INVALID_FILTER: Final = "Invalid event filter"
STREAM_EXISTS: Final = "Stream with given sequence exists"
INVALID_QUERY: Final = "No pending queries matching ID"
AUTH_REQUIRED: Final = "Authentication required"
INVALID_AUTH: Final = "Invalid authentication token"

_COMMAND_BYTES_MAX: Final = 64
_ERROR_BYTES_MAX: Final = 64 * 1024
"""The error of a key command lists what every member said."""


class Limits(NamedTuple):
    """How much one value may be: bytes as encoded, and the entries of one list or map."""

    value_bytes: int
    entries: int


GREETING_LIMITS: Final = Limits(4096, 64)
"""For a client that has not shown the key; a handshake and a key fit in 200 bytes."""
SERVER_LIMITS: Final = Limits(256 * 1024, 4096)
"""For a request; the largest sensible ones name some thousand nodes."""
CLIENT_LIMITS: Final = Limits(16 * 2**20, 32_768)
"""For a reply; the list of 32,768 members with 512 bytes each."""

_Value: TypeAlias = Any


class ValueReader:
    """Cuts a stream of bytes into values, whatever pieces it comes in."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._fed = 0
        self._read = 0
        self._unpacker = self._new_unpacker()

    def change_limits(self, limits: Limits) -> None:
        """Other limits from now on; only right after a value."""
        rest: bytes = self._unpacker.read_bytes(self.pending_bytes)
        self._limits = limits
        self._fed = self._read = 0
        self._unpacker = self._new_unpacker()
        self.feed(rest)

    @property
    def pending_bytes(self) -> int:
        """How much is fed that no value was made of yet."""
        return self._fed - self._read

    def feed(self, data: bytes) -> None:
        """Take in more of the stream."""
        try:
            self._unpacker.feed(data)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise CodecError("too_large", "more bytes than a value may have") from error
        self._fed += len(data)

    def next(self) -> tuple[_Value] | None:
        """The next value in a tuple of one, None when more bytes are needed for it."""
        try:
            value = self._unpacker.unpack()
        except msgpack.OutOfData:
            # What a half-read list or map has used up is no longer in the unpacker's buffer, so its own
            # limit does not see it.
            if self.pending_bytes > self._limits.value_bytes:
                raise CodecError(
                    "too_large", f"a value of over {self.pending_bytes} bytes, at most {self._limits.value_bytes}"
                ) from None
            return None
        except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
            raise CodecError("bad_msgpack", str(error)) from error
        end = self._unpacker.tell()
        size, self._read = end - self._read, end
        if size > self._limits.value_bytes:
            raise CodecError("too_large", f"a value of {size} bytes, at most {self._limits.value_bytes}")
        return (value,)

    def _new_unpacker(self) -> msgpack.Unpacker:
        value_bytes, entries = self._limits
        return msgpack.Unpacker(
            raw=True,
            use_list=False,
            strict_map_key=False,
            max_buffer_size=2 * max(value_bytes, 64 * 1024),
            max_str_len=value_bytes,
            max_bin_len=value_bytes,
            max_ext_len=16,
            max_array_len=entries,
            max_map_len=entries,
        )


class RequestHeader(NamedTuple):
    """What a client wants; `seq` is its own number for it."""

    command: str
    seq: int


class ReplyHeader(NamedTuple):
    """To which request something belongs; `error` is empty when all went well."""

    seq: int
    error: str


def pack_value(value: object) -> bytes:
    """One value; text that came from bytes which are no UTF-8 becomes those bytes again."""
    packed: bytes = msgpack.packb(value, use_bin_type=True, unicode_errors="surrogateescape")
    return packed


def pack_map_head(entries: int) -> bytes:
    """The start of a map whose keys and values follow."""
    packed: bytes = msgpack.Packer().pack_map_header(entries)
    return packed


def pack_list_head(entries: int) -> bytes:
    """The start of a list whose elements follow."""
    packed: bytes = msgpack.Packer().pack_array_header(entries)
    return packed


def encode_request_header(header: RequestHeader) -> bytes:
    """A request's first value."""
    return pack_value({"Command": header.command, "Seq": header.seq})


def decode_request_header(value: object) -> RequestHeader:
    """Reads a request's first value."""
    fields = as_fields(value)
    return RequestHeader(text(fields, b"Command", _COMMAND_BYTES_MAX), uint(fields, b"Seq", 64))


def encode_reply_header(seq: int, error: str = "") -> bytes:
    """A reply's first value, or what precedes a record of a stream."""
    return pack_value({"Seq": seq, "Error": error})


def decode_reply_header(value: object) -> ReplyHeader:
    """Reads a reply's first value."""
    fields = as_fields(value)
    if b"Seq" not in fields:
        raise CodecError("no_header", "a value without Seq stands where the header of a reply should")
    return ReplyHeader(uint(fields, b"Seq", 64), text(fields, b"Error", _ERROR_BYTES_MAX))
