"""One client of the RPC server, without IO: who it is, what it asks, which streams it has.

    handshake -> auth -> anything else, in any order

Nothing but these two is looked at before the key was shown, and little is read until then.
What can be answered without the backend is answered here. Replies may be followed by
records; both are made here, and the driver only carries them.
"""

import hmac
from typing import Final, TypeAlias

import msgspec

from gossip.codec.dialect import as_fields, to_raw
from gossip.membership import MembershipNews, QueryNews
from gossip.rpc.backend import LOG_LEVELS, LogLevel, LogLine
from gossip.rpc.protocol import (
    AUTH_REQUIRED,
    COMMANDS_WITH_BODY,
    DUPLICATE_HANDSHAKE,
    GREETING_LIMITS,
    HANDSHAKE_REQUIRED,
    INVALID_AUTH,
    INVALID_FILTER,
    MONITOR_EXISTS,
    RPC_VERSION,
    SERVER_LIMITS,
    STREAM_EXISTS,
    UNSUPPORTED_COMMAND,
    UNSUPPORTED_VERSION,
    CodecError,
    RequestHeader,
    ValueReader,
    decode_request_header,
    encode_reply_header,
)
from gossip.rpc.records import encode_log, encode_news, encode_query_news
from gossip.rpc.requests import (
    Auth,
    FollowEvents,
    FollowLog,
    Handshake,
    Request,
    StopStream,
    decode_request,
    is_command,
)
from gossip.rpc.server.selection import EventFilter

STREAMS_MAX: Final = 16
"""Event streams of one connection; Serf's tools open one."""
REFUSALS_MAX: Final = 4
"""So many wrong keys or requests without one, then the connection ends: no oracle for guessing."""


class Say(msgspec.Struct, frozen=True):
    """Send this."""

    data: bytes


class Perform(msgspec.Struct, frozen=True):
    """Ask the backend, and answer `seq`."""

    seq: int
    request: Request


class HangUp(msgspec.Struct, frozen=True):
    """End the connection after what was said; `cause` is a short stable word for counters."""

    cause: str


Turn: TypeAlias = Say | Perform | HangUp


class Session:
    """One connection; `receive` never raises."""

    def __init__(self, auth_key: str) -> None:
        assert auth_key, "a server without a key must not start"
        self._auth_key = to_raw(auth_key)
        self._reader = ValueReader(GREETING_LIMITS)
        self._header: RequestHeader | None = None
        self._is_greeted = False
        self._is_trusted = False
        self._is_over = False
        self._refusals = 0
        self._streams: dict[int, EventFilter] = {}
        self._log_seq = 0
        self._log_level: LogLevel | None = None

    @property
    def is_trusted(self) -> bool:
        """Whether the client has shown the key."""
        return self._is_trusted

    @property
    def wants_news(self) -> bool:
        """Whether it has an event stream."""
        return bool(self._streams)

    @property
    def wants_log(self) -> bool:
        """Whether it follows the log."""
        return self._log_level is not None

    def receive(self, data: bytes) -> list[Turn]:
        """What to do about `data`, in order."""
        turns: list[Turn] = []
        try:
            self._reader.feed(data)
            while not self._is_over and (value := self._reader.next()) is not None:
                turns += self._take(value[0])
        except CodecError as error:
            self._is_over = True
            turns.append(HangUp(error.cause))
        return turns

    def records(self, news: MembershipNews) -> list[bytes]:
        """`news` for each stream that carries it."""
        wanting = [seq for seq, wanted in self._streams.items() if wanted.takes(news)]
        if not wanting:
            return []
        body = encode_news(news)
        return [encode_reply_header(seq) + body for seq in wanting]

    def log_record(self, line: LogLine) -> bytes:
        """`line` for the client, empty when it does not want it."""
        if self._log_level is None or line.level < self._log_level:
            return b""
        return encode_reply_header(self._log_seq) + encode_log(line.text)

    def query_record(self, seq: int, news: QueryNews) -> bytes:
        """What came of the query that request `seq` asked."""
        return encode_reply_header(seq) + encode_query_news(news)

    def _take(self, value: object) -> list[Turn]:
        header = self._header
        if header is None:
            header = decode_request_header(value)
            if not is_command(header.command):
                return self._end(header.seq, UNSUPPORTED_COMMAND, "unknown_command")
            if not self._is_greeted and header.command != "handshake":
                return self._end(header.seq, HANDSHAKE_REQUIRED, "no_handshake")
            if header.command in COMMANDS_WITH_BODY:
                self._header = header
                return []
            value = {}
        self._header = None
        if not self._is_trusted and header.command not in {"handshake", "auth"}:
            return self._refuse(header.seq, AUTH_REQUIRED)
        return self._dispatch(header.seq, decode_request(header.command, as_fields(value)))

    def _dispatch(self, seq: int, request: Request) -> list[Turn]:
        match request:
            case Handshake(version=version):
                return self._greet(seq, version)
            case Auth(key=key):
                return self._authenticate(seq, key)
            case FollowEvents(kinds=kinds):
                return self._follow_events(seq, kinds)
            case FollowLog(level=level):
                return self._follow_log(seq, level)
            case StopStream(seq=stopped):
                self._streams.pop(stopped, None)
                if stopped == self._log_seq:
                    self._log_seq, self._log_level = 0, None
                return _say(seq)
            case _:
                return [Perform(seq, request)]

    def _greet(self, seq: int, version: int) -> list[Turn]:
        if version != RPC_VERSION:
            return self._refuse(seq, UNSUPPORTED_VERSION)
        if self._is_greeted:
            return self._refuse(seq, DUPLICATE_HANDSHAKE)
        self._is_greeted = True
        return _say(seq)

    def _authenticate(self, seq: int, key: str) -> list[Turn]:
        if not hmac.compare_digest(to_raw(key), self._auth_key):
            return self._refuse(seq, INVALID_AUTH)
        if not self._is_trusted:
            self._is_trusted = True
            self._reader.change_limits(SERVER_LIMITS)
        return _say(seq)

    def _follow_events(self, seq: int, kinds: str) -> list[Turn]:
        try:
            wanted = EventFilter(kinds)
        except ValueError:
            return _say(seq, INVALID_FILTER)
        if seq in self._streams:
            return _say(seq, STREAM_EXISTS)
        if len(self._streams) >= STREAMS_MAX:
            return _say(seq, f"{STREAMS_MAX} streams are open on this connection, which is the most")
        self._streams[seq] = wanted
        return _say(seq)

    def _follow_log(self, seq: int, level: str) -> list[Turn]:
        name = level.upper()
        if name not in LOG_LEVELS:
            return _say(seq, f"Unknown log level: {name:.40}")
        if self._log_level is not None:
            return _say(seq, MONITOR_EXISTS)
        self._log_seq, self._log_level = seq, LogLevel[name]
        return _say(seq)

    def _refuse(self, seq: int, error: str) -> list[Turn]:
        self._refusals += 1
        if self._refusals >= REFUSALS_MAX:
            return self._end(seq, error, "refused")
        return _say(seq, error)

    def _end(self, seq: int, error: str, cause: str) -> list[Turn]:
        self._is_over = True
        return [*_say(seq, error), HangUp(cause)]


def _say(seq: int, error: str = "") -> list[Turn]:
    return [Say(encode_reply_header(seq, error))]
