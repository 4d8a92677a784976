"""Plain heads read in one pass: pure. Whatever is not plain is left to `heads` and h11.

Most requests look alike: HTTP/1.1, a path, fields that are only passed on. Such a head is split into lines; a line
that was seen before is looked up, and a new one is judged by the same functions that `heads` uses and remembered with
what becomes of it. Heads as a whole are never remembered, so requests that differ cost the same as requests that do
not. What comes out is byte for byte what the long way would have sent; a test draws heads and compares.
"""

import enum
import re
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from node.proxy.faults import BadHeadError
from node.proxy.forwarding import BODY_USUAL, HOP_BY_HOP, REQUEST_ID, SAID_BY_PROXIES
from node.proxy.heads import FRAMING_FIELDS, Framing, check_host, parse_field, spelled_plainly
from node.proxy.routes import normalize_host

LINES_KEPT: Final = 2048
LINE_BYTES_MAX: Final = 256
"""Longer lines are judged every time: cookies that differ from client to client would only push others out."""

_REQUEST_LINE: Final = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[!\"$-\[\]-~]*) HTTP/1\.1")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


class _Meaning(enum.Enum):
    """What a line is for, when it is not just passed on."""

    DROPPED = enum.auto()
    HOST = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()
    REQUEST_ID = enum.auto()


class _Line(msgspec.Struct, frozen=True, gc=False):
    """A line that the reader has to act on; `value` is a host or a request id, `number` a length."""

    meaning: _Meaning
    value: bytes = b""
    number: int = 0
    host: str = ""


_Known: TypeAlias = bytes | _Line
"""A line to pass on, as it is sent; or one to act on."""


class PlainRequest(msgspec.Struct, gc=False):
    """A request head that is plain; `lines` go to the target as they are, without the request line and Host."""

    method: bytes
    target: str
    host: str
    host_line: bytes
    lines: list[bytes]
    length: int
    has_length: bool
    is_last: bool
    request_id: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def forwarded_bytes(self, forwarded: bytes) -> bytes:
        """The head to send; `forwarded` are the lines that say who the client is, up to the host's name."""
        lines = self.lines
        return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b%b%b\r\nX-Request-Id: %b\r\n%b\r\n" % (
            self.method,
            self.target.encode("ascii"),
            self.host_line,
            b"\r\n".join(lines),
            b"\r\n" if lines else b"",
            forwarded,
            self.host_line,
            self.request_id,
            b"Content-Length: %d\r\n" % self.length if self.has_length else b"",
        )


class PlainResponse(msgspec.Struct, gc=False):
    """The head of an answer that is plain; `lines` go to the client, the status line first."""

    status: int
    lines: list[bytes]
    framing: Framing
    length: int
    is_last: bool
    has_request_id: bool


class PlainReader:
    """Reads heads, and remembers lines: at most `LINES_KEPT` of each direction, then it starts afresh."""

    def __init__(self, lines_max: int, target_bytes_max: int) -> None:
        self._lines_max = lines_max
        self._target_bytes_max = target_bytes_max
        self._of_requests = _KnownLines(_judge_request_line)
        self._of_responses = _KnownLines(_judge_response_line)

    def read_request(self, head: bytes) -> PlainRequest | None:
        """The request in `head`, which has no empty line at its end; None when it is not plain."""
        lines = head.split(b"\r\n")
        match = _REQUEST_LINE.fullmatch(lines[0])
        if match is None or len(lines) > self._lines_max:
            return None
        method, target = match.groups()
        found = self._of_requests.sort(lines, [])
        if found is None or found.host is None or len(target) > self._target_bytes_max:
            return None
        length = found.length
        if length is not None and length.number and method not in BODY_USUAL:
            return None
        return PlainRequest(
            method,
            target.decode("ascii"),
            found.host.host,
            found.host.value,
            found.kept,
            0 if length is None else length.number,
            length is not None,
            found.is_last,
            found.request_id,
        )

    def read_response(self, head: bytes, method: bytes) -> PlainResponse | None:
        """The answer to a `method` request in `head`, without its empty line; None when it is not plain."""
        lines = head.split(b"\r\n")
        match = _STATUS_LINE.fullmatch(lines[0])
        if match is None or len(lines) > 2 * self._lines_max:
            return None
        status = int(match[1])
        found = self._of_responses.sort(lines, [lines[0] if match[2] is not None else lines[0] + b" "])
        if found is None or (found.length is not None and (found.is_chunked or status == 204)):
            return None
        framing, count, length = Framing.NONE, 0, found.length
        has_body = method != b"HEAD" and status not in (204, 304)
        if found.is_chunked and has_body:
            framing = Framing.CHUNKED
            found.kept.append(b"Transfer-Encoding: chunked")
        elif length is not None:
            found.kept.append(b"Content-Length: " + length.value)
            if has_body:
                framing, count = Framing.LENGTH, length.number
        elif status not in (204, 304) or found.is_chunked:
            return None
        if found.request_id:
            found.kept.append(found.request_id)
        return PlainResponse(status, found.kept, framing, count, found.is_last, bool(found.request_id))


class _Sorted(msgspec.Struct, gc=False):
    """The fields of a head, sorted by what becomes of them."""

    kept: list[bytes]
    host: _Line | None = None
    length: _Line | None = None
    is_chunked: bool = False
    is_last: bool = False
    request_id: bytes = b""

    def take(self, line: _Line) -> bool:
        """Act on `line`; False when it was there before, which only the long way judges."""
        match line.meaning:
            case _Meaning.DROPPED:
                pass
            case _Meaning.HOST if self.host is None:
                self.host = line
            case _Meaning.LENGTH if self.length is None:
                self.length = line
            case _Meaning.CHUNKED if not self.is_chunked:
                self.is_chunked = True
            case _Meaning.CLOSE:
                self.is_last = True
            case _Meaning.REQUEST_ID if not self.request_id:
                self.request_id = line.value
            case _:
                return False
        return True


class _KnownLines:
    """Field lines of one direction, with what becomes of each; `judge` knows it for a new one."""

    def __init__(self, judge: Callable[[bytes], _Known | None]) -> None:
        self._judge = judge
        self._known: dict[bytes, _Known] = {}

    def sort(self, lines: list[bytes], kept: list[bytes]) -> _Sorted | None:
        """All `lines` but the first, sorted, after those in `kept`; None when one of them is not plain."""
        known = self._known
        found = _Sorted(kept)
        for number in range(1, len(lines)):
            line = lines[number]
            meaning = known.get(line)
            if meaning is None:
                meaning = self._judge(line)
                if meaning is None:
                    return None
                if len(line) <= LINE_BYTES_MAX:
                    if len(known) >= LINES_KEPT:
                        known.clear()
                    known[line] = meaning
            if isinstance(meaning, bytes):
                kept.append(meaning)
            elif not found.take(meaning):
                return None
        return found


def _judge_request_line(line: bytes) -> _Known | None:
    try:
        name, value = parse_field(line)
        lower, plainly = name.lower(), spelled_plainly(name)
        if lower == b"host":
            check_host(value)
            return _Line(_Meaning.HOST, value=value, host=normalize_host(value.decode("ascii")))
    except BadHeadError:
        return None
    if lower == b"content-length":
        return _length_line(value)
    if lower == b"connection":
        return _connection_line(value)
    if plainly in FRAMING_FIELDS:
        return None
    if lower == b"x-request-id":
        return _Line(_Meaning.REQUEST_ID, value=value) if REQUEST_ID.fullmatch(value) else None
    if lower in HOP_BY_HOP or plainly in SAID_BY_PROXIES:
        return _Line(_Meaning.DROPPED)
    return name + b": " + value


def _judge_response_line(line: bytes) -> _Known | None:
    try:
        name, value = parse_field(line)
    except BadHeadError:
        return None
    lower, plainly = name.lower(), spelled_plainly(name)
    if lower == b"content-length":
        return _length_line(value)
    if lower == b"connection":
        return _connection_line(value)
    if lower == b"transfer-encoding":
        return _Line(_Meaning.CHUNKED) if value.lower() == b"chunked" else None
    if plainly in FRAMING_FIELDS and lower not in HOP_BY_HOP:
        return None
    if lower == b"x-request-id":
        return _Line(_Meaning.REQUEST_ID, value=name + b": " + value)
    if lower in HOP_BY_HOP:
        return _Line(_Meaning.DROPPED)
    return name + b": " + value


def _length_line(value: bytes) -> _Line | None:
    return _Line(_Meaning.LENGTH, value=value, number=int(value)) if _LENGTH.fullmatch(value) else None


def _connection_line(value: bytes) -> _Line | None:
    match value.lower():
        case b"close":
            return _Line(_Meaning.CLOSE)
        case b"keep-alive":
            return _Line(_Meaning.DROPPED)
        case _:
            return None
