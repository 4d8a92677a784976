"""What a head must look like: the strict reading of bytes in front of h11. Pure.

Refuses every head that two parsers could read differently (RFC 9112 §2.2, §3, §5,
§6.3, §11.2). `forwarding` decides what is sent on.
"""

import enum
import ipaddress
import re
from typing import Final, TypeAlias

import msgspec

from node.proxy.faults import BadHeadError

Field: TypeAlias = tuple[bytes, bytes]
"""One field line: its name as it came, its value without white space around it."""

_FORBIDDEN: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?=[^\n])")
"""Control bytes, a bare LF, a bare CR (one at the very end may still get its LF)."""
_REQUEST_LINE: Final = re.compile(rb"([A-Z][A-Z_-]{0,31}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_STATUS_LINE: Final = re.compile(rb"HTTP/([0-9])\.([0-9]) ([0-9]{3})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE_BAD: Final = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_NAME: Final = re.compile(rb"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})")
_BRACKETED: Final = re.compile(rb"\[([0-9A-Fa-f:.]{2,45})\]")
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]+)(.*)")
_PUNCTUATION: Final = re.compile(rb"[^a-z0-9]")

FRAMING_FIELDS: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"host", b"connection", b"upgrade", b"expect", b"te", b"trailer"}
)
_UNLISTABLE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_REFUSED_METHODS: Final = frozenset({b"CONNECT", b"TRACE"})


class Framing(enum.Enum):
    """How the end of a body is found."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until-close"


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """A request line and its fields, checked.

    `target` is what to forward: origin-form, or `*`. `host` is the authority that the
    client meant, empty only in HTTP/1.0. `listed` are the lower-case names in Connection.
    `upgrade` is the protocol asked for, empty for none.
    """

    method: bytes
    target: str
    host: str
    minor: int
    fields: tuple[Field, ...]
    framing: Framing
    length: int
    listed: tuple[bytes, ...]
    upgrade: bytes = b""
    expects_continue: bool = False

    @property
    def path(self) -> str:
        """The target without its query; `/` for `*`."""
        return "/" if self.target == "*" else self.target.partition("?")[0]

    @property
    def has_body(self) -> bool:
        """Whether bytes of a body follow."""
        return self.framing is Framing.CHUNKED or self.length > 0

    @property
    def wants_keep_alive(self) -> bool:
        """Whether the client is ready for another request; never in HTTP/1.0."""
        return self.minor == 1 and b"close" not in self.listed

    def first(self, name: bytes) -> bytes:
        """The value of the first field called `name` (lower case), empty without one."""
        return next((value for key, value in self.fields if key.lower() == name), b"")


class ResponseHead(msgspec.Struct, frozen=True, kw_only=True):
    """A status line and its fields, checked; `framing` knows the request's method."""

    status: int
    reason: bytes
    minor: int
    fields: tuple[Field, ...]
    framing: Framing
    length: int
    listed: tuple[bytes, ...]
    upgrade: bytes = b""

    @property
    def may_be_followed(self) -> bool:
        """Whether the target keeps the connection for another request."""
        return self.minor == 1 and b"close" not in self.listed and self.framing is not Framing.UNTIL_CLOSE


class HeadScanner:
    """Finds the end of a head in a growing buffer and refuses forbidden bytes as they come."""

    __slots__ = ("_bytes_max", "_seen")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._seen = 0

    def find_end(self, buffer: bytearray) -> int:
        """How many bytes of `buffer` are the head with its empty line, 0 while it is not complete.

        Raises BadHeadError: 400 for forbidden bytes, 414 and 431 for a head that is too long.
        """
        start = max(0, self._seen - 3)
        end = buffer.find(b"\r\n\r\n", start) + 4
        stop = end if end > 3 else len(buffer)
        if _FORBIDDEN.search(buffer, start, stop):
            raise BadHeadError("A head holds a control byte, or a line end that is not CRLF.")
        self._seen = len(buffer)
        if stop > self._bytes_max:
            is_line_long = b"\r\n" not in buffer[: self._bytes_max]
            raise BadHeadError("The head is too long.", 414 if is_line_long else 431)
        return end if end > 3 else 0


def parse_request_head(raw: bytes, lines_max: int = 100, target_bytes_max: int = 8192) -> RequestHead:
    """The request head in `raw`, which ends with its empty line.

    Raises BadHeadError with the status that tells the client: 400, 405, 414, 417, 431,
    501 or 505.
    """
    lines = _split_lines(raw)
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise BadHeadError("The request line is not METHOD SP TARGET SP HTTP/1.1.")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in (b"0", b"1"):
        raise BadHeadError("Only the versions 1.0 and 1.1 are spoken here.", 505)
    if method in _REFUSED_METHODS:
        raise BadHeadError("This method is not served here.", 405)
    if len(target) > target_bytes_max:
        raise BadHeadError("The request target is too long.", 414)
    fields = _parse_fields(lines[1:], lines_max)
    is_old = minor == b"0"
    listed = _listed(fields)
    framing, length = _request_framing(fields, is_old=is_old)
    origin, authority = _split_target(method, target)
    host = _request_host(fields, authority, is_old=is_old)
    has_upgrade = not is_old and b"upgrade" in listed and framing is Framing.NONE
    return RequestHead(
        method=method,
        target=origin,
        host=host,
        minor=0 if is_old else 1,
        fields=fields,
        framing=framing,
        length=length,
        listed=listed,
        upgrade=_requested_protocol(fields) if has_upgrade else b"",
        expects_continue=_expects_continue(fields) and not is_old,
    )


def parse_response_head(raw: bytes, method: bytes, lines_max: int = 200) -> ResponseHead:
    """The response head in `raw`, an answer to a `method` request.

    Raises BadHeadError for whatever could be read in two ways: the target is at fault.
    """
    lines = _split_lines(raw)
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None or match[1] != b"1" or match[2] not in (b"0", b"1"):
        raise BadHeadError("The status line is not HTTP/1.1 SP CODE SP REASON.")
    status = int(match[3])
    if not 100 <= status <= 599:
        raise BadHeadError("The status code is outside 100 to 599.")
    fields = _parse_fields(lines[1:], lines_max)
    framing, length = _response_framing(fields, status, method, is_old=match[2] == b"0")
    return ResponseHead(
        status=status,
        reason=match[4] or b"",
        minor=int(match[2]),
        fields=fields,
        framing=framing,
        length=length,
        listed=_listed(fields),
        upgrade=b", ".join(_values(fields, b"upgrade")),
    )


def check_trailer_line(line: bytes) -> None:
    """Raises BadHeadError when `line` may not stand in a trailer section (RFC 9110 §6.5.1)."""
    name, _ = parse_field(line)
    if spelled_plainly(name) in FRAMING_FIELDS:
        raise BadHeadError("A trailer names a framing field.")


def _split_lines(raw: bytes) -> list[bytes]:
    if not raw.endswith(b"\r\n\r\n") or _FORBIDDEN.search(raw):
        raise BadHeadError("A head holds a control byte, or a line end that is not CRLF.")
    return raw[:-4].split(b"\r\n")


def _parse_fields(lines: list[bytes], lines_max: int) -> tuple[Field, ...]:
    if len(lines) > lines_max:
        raise BadHeadError("There are too many fields.", 431)
    fields = tuple(parse_field(line) for line in lines)
    for name, _ in fields:
        if name.lower() not in FRAMING_FIELDS and spelled_plainly(name) in FRAMING_FIELDS:
            raise BadHeadError("A field name looks like a framing field but is another.")
    return fields


def parse_field(line: bytes) -> Field:
    """The name and the value in one field line. Raises BadHeadError when two parsers could read it differently."""
    if line[:1] in (b" ", b"\t"):
        raise BadHeadError("A field is folded over two lines.")
    name, colon, value = line.partition(b":")
    if not colon or not _TOKEN.fullmatch(name):
        raise BadHeadError("A field line is not NAME: VALUE.")
    if _VALUE_BAD.search(value):
        raise BadHeadError("A field value holds a forbidden byte.")
    return name, value.strip(b" \t")


def spelled_plainly(name: bytes) -> bytes:
    """A field's name in lower case with a dash for whatever is neither letter nor digit: what CGI makes equal."""
    return _PUNCTUATION.sub(b"-", name.lower())


def _values(fields: tuple[Field, ...], name: bytes) -> list[bytes]:
    return [value for key, value in fields if key.lower() == name]


def _listed(fields: tuple[Field, ...]) -> tuple[bytes, ...]:
    tokens: list[bytes] = []
    for value in _values(fields, b"connection"):
        for part in value.split(b","):
            token = part.strip(b" \t").lower()
            if token and not _TOKEN.fullmatch(token):
                raise BadHeadError("Connection is not a list of names.")
            if token in _UNLISTABLE:
                raise BadHeadError("Connection names a field that no hop may remove.")
            if token:
                tokens.append(token)
    return tuple(tokens)


def _content_length(fields: tuple[Field, ...]) -> int | None:
    values = _values(fields, b"content-length")
    if len(values) > 1:
        raise BadHeadError("There are several Content-Length fields.")
    if values and not _LENGTH.fullmatch(values[0]):
        raise BadHeadError("Content-Length is not a number of at most 18 digits.")
    return int(values[0]) if values else None


def _is_chunked(fields: tuple[Field, ...], *, is_old: bool) -> bool:
    values = _values(fields, b"transfer-encoding")
    if not values:
        return False
    if is_old:
        raise BadHeadError("Transfer-Encoding has no meaning in HTTP/1.0.")
    if len(values) > 1:
        raise BadHeadError("There are several Transfer-Encoding fields.")
    codings = [coding.strip(b" \t").lower() for coding in values[0].split(b",")]
    if codings == [b"chunked"]:
        return True
    is_plausible = codings[-1] == b"chunked" and all(_TOKEN.fullmatch(coding) for coding in codings)
    if is_plausible and codings.count(b"chunked") == 1 and b"identity" not in codings:
        raise BadHeadError("The only transfer coding known here is chunked.", 501)
    raise BadHeadError("Transfer-Encoding is not chunked.")


def _request_framing(fields: tuple[Field, ...], *, is_old: bool) -> tuple[Framing, int]:
    length = _content_length(fields)
    if _is_chunked(fields, is_old=is_old):
        if length is not None:
            raise BadHeadError("Content-Length and Transfer-Encoding contradict each other.")
        return Framing.CHUNKED, 0
    if length is None:
        return Framing.NONE, 0
    return Framing.LENGTH, length


def _response_framing(fields: tuple[Field, ...], status: int, method: bytes, *, is_old: bool) -> tuple[Framing, int]:
    length = _content_length(fields)
    is_chunked = _is_chunked(fields, is_old=is_old)
    if is_chunked and length is not None:
        raise BadHeadError("Content-Length and Transfer-Encoding contradict each other.")
    if method == b"HEAD" or status < 200 or status in (204, 304):
        return Framing.NONE, 0
    if is_chunked:
        return Framing.CHUNKED, 0
    return (Framing.UNTIL_CLOSE, 0) if length is None else (Framing.LENGTH, length)


def _split_target(method: bytes, target: bytes) -> tuple[str, bytes]:
    if target == b"*":
        if method != b"OPTIONS":
            raise BadHeadError("Only OPTIONS may have * for its target.")
        return "*", b""
    authority = b""
    if not target.startswith(b"/"):
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            raise BadHeadError("The request target is neither a path nor an http URL.")
        authority, rest = match.groups()
        target = rest if rest.startswith(b"/") else b"/" + rest
    if b"#" in target or b"\\" in target.partition(b"?")[0]:
        raise BadHeadError("The request target holds a # or a backslash.")
    return target.decode("ascii"), authority


def _request_host(fields: tuple[Field, ...], authority: bytes, *, is_old: bool) -> str:
    values = _values(fields, b"host")
    if len(values) > 1:
        raise BadHeadError("There are several Host fields.")
    if not values and not is_old:
        raise BadHeadError("There is no Host field.")
    for name in (*values, *((authority,) if authority else ())):
        check_host(name)
    if authority:
        return authority.decode("ascii")
    return values[0].decode("ascii") if values else ""


def check_host(host: bytes) -> None:
    """Raises BadHeadError when `host` is no name or address, with or without a port."""
    if host.startswith(b"["):
        literal, bracket, rest = host.partition(b"]")
        match = _BRACKETED.fullmatch(literal + bracket)
        if match is None or not _is_ipv6(match[1].decode("ascii")):
            raise BadHeadError("Host is not a name, an address or [an IPv6 address].")
        colon, port = rest[:1], rest[1:]
    else:
        name, colon, port = host.partition(b":")
        if not _NAME.fullmatch(name):
            raise BadHeadError("Host is not a name, an address or [an IPv6 address].")
    if colon not in (b"", b":") or (port and not (port.isdigit() and len(port) <= 5 and int(port) <= 65535)):
        raise BadHeadError("The port in Host is not a number up to 65535.")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _expects_continue(fields: tuple[Field, ...]) -> bool:
    values = _values(fields, b"expect")
    if any(value.lower() != b"100-continue" for value in values):
        raise BadHeadError("The only expectation known here is 100-continue.", 417)
    return bool(values)


def _requested_protocol(fields: tuple[Field, ...]) -> bytes:
    """What Upgrade asks for, without h2c: it would smuggle HTTP/2 past every rule here (RFC 9113 §3.1)."""
    protocols = [part.strip(b" \t") for value in _values(fields, b"upgrade") for part in value.split(b",")]
    return b", ".join(one for one in protocols if one and one.partition(b"/")[0].lower() not in (b"h2c", b"h2"))
