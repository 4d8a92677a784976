"""The client's half of Serf's RPC without IO: requests to bytes, bytes to replies and records.

Requests may overlap. What belongs to which is known by number only, and whether a body
follows a header only by the request of that number; so a request whose caller gave up is
remembered until its reply has passed, and a stream that was stopped for as long as an agent
may still have records of it on the way.
"""

from typing import Final, NamedTuple, TypeAlias

from gossip.codec.dialect import as_fields
from gossip.rpc.protocol import (
    AUTH_REQUIRED,
    CLIENT_LIMITS,
    COMMANDS_WITH_REPLY,
    COMMANDS_WITH_STREAM,
    HANDSHAKE_REQUIRED,
    UNSUPPORTED_COMMAND,
    CodecError,
    Fields,
    Limits,
    ReplyHeader,
    ValueReader,
    decode_reply_header,
)
from gossip.rpc.requests import Request, command_of, encode_request

OPEN_MAX: Final = 256
"""Requests and streams at once; an agent answers one after the other anyway."""
STOPPED_MAX: Final = 1024
"""Streams that are over and still remembered; the oldest is forgotten."""
_WITHOUT_BODY: Final = frozenset({AUTH_REQUIRED, HANDSHAKE_REQUIRED, UNSUPPORTED_COMMAND})
"""Errors that come before a command is looked at: no body follows them."""
_QUERY: Final = "query"


class Reply(NamedTuple):
    """The answer to request `seq`; `error` is empty when it was done. `fields` are empty without a body."""

    seq: int
    error: str
    fields: Fields


class Record(NamedTuple):
    """One record of the stream that request `seq` began."""

    seq: int
    fields: Fields


Incoming: TypeAlias = Reply | Record


class Conversation:
    """One connection, seen by its client."""

    def __init__(self, limits: Limits = CLIENT_LIMITS) -> None:
        self._reader = ValueReader(limits)
        self._seq = 0
        self._waiting: dict[int, str] = {}
        self._streams: dict[int, str] = {}
        self._stopped: dict[int, None] = {}
        self._header: ReplyHeader | None = None

    @property
    def open_count(self) -> int:
        """Requests without a reply, and streams."""
        return len(self._waiting) + len(self._streams)

    def begin(self, request: Request) -> tuple[int, bytes]:
        """The number of a new request, and what to send; the caller keeps to `OPEN_MAX`, but for stops."""
        self._seq += 1
        self._waiting[self._seq] = command_of(request)
        return self._seq, encode_request(self._seq, request)

    def withdraw(self, seq: int) -> None:
        """What `begin` gave for `seq` was never sent."""
        del self._waiting[seq]

    def forget_stream(self, seq: int) -> bool:
        """Records of `seq` are no longer wanted, and may still come; whether there was such a stream."""
        if self._streams.pop(seq, None) is None:
            return False
        self._stopped[seq] = None
        while len(self._stopped) > STOPPED_MAX:
            del self._stopped[next(iter(self._stopped))]
        return True

    def receive(self, data: bytes) -> list[Incoming]:
        """What `data` completes. Raises CodecError when the connection can only be given up."""
        self._reader.feed(data)
        found: list[Incoming] = []
        while (value := self._reader.next()) is not None:
            found += self._take(value[0])
        return found

    def _take(self, value: object) -> list[Incoming]:
        header = self._header
        if header is None:
            header = decode_reply_header(value)
            if self._has_body(header):
                self._header = header
                return []
            return [self._reply(header, {})]
        self._header = None
        fields = as_fields(value)
        if header.seq in self._waiting:
            return [self._reply(header, fields)]
        if header.seq in self._stopped:
            return []
        if self._streams.get(header.seq) == _QUERY and fields.get(b"Type") == b"done":
            del self._streams[header.seq]
        return [Record(header.seq, fields)]

    def _has_body(self, header: ReplyHeader) -> bool:
        command = self._waiting.get(header.seq)
        if command is not None:
            return command in COMMANDS_WITH_REPLY and header.error not in _WITHOUT_BODY
        if header.seq in self._streams or header.seq in self._stopped:
            return True
        raise CodecError("unknown_seq", f"a reply to request {header.seq}, which was never made or is long over")

    def _reply(self, header: ReplyHeader, fields: Fields) -> Reply:
        command = self._waiting.pop(header.seq)
        if command in COMMANDS_WITH_STREAM and not header.error:
            self._streams[header.seq] = command
        return Reply(header.seq, header.error, fields)
