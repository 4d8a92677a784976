"""What a handler is given and what it gives back."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
import trio

from orca.errors import ErrorEnvelope, InvalidRequestError, OrcaError, PayloadTooLargeError, to_body

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Fields in order, names in lower case."""

QUERY_FIELDS_MAX: Final = 1000
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one connection. Times are seconds, sizes bytes.

    `head_timeout_s` runs from the first byte of a head to its end, and bounds a client
    that sends one byte at a time. `body_timeout_s` and `send_timeout_s` bound the wait
    for progress, not the whole transfer, so that large bodies may take their time.
    `body_bytes_max` is what `Request.read` allows where its caller names no limit.
    """

    head_bytes_max: int = 32 * 1024
    head_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    body_timeout_s: float = 30.0
    send_timeout_s: float = 30.0
    body_bytes_max: int = 8 * 2**20


class Request:
    """One request. `target` is as it was sent; `path` and `query` are its decoded parts.

    `segments` are the parts of the path between its slashes, each decoded for itself,
    so that an encoded slash stays inside its segment. `peer` names the other end.
    """

    def __init__(self, method: str, target: str, headers: Headers, peer: str, body: AsyncIterator[bytes]) -> None:
        """Raises `InvalidRequestError` for a target that cannot be decoded."""
        self.method = method
        self.target = target
        self.headers = headers
        self.peer = peer
        self._body = body
        raw_path, _, raw_query = _origin_form(target).partition("?")
        self.segments = tuple(_decoded(part, raw_path) for part in raw_path.split("/")[1:])
        self.path = raw_path
        self.query = _query(raw_query)

    def header(self, name: str) -> str | None:
        """The first field `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def content_type(self) -> str:
        """The media type of the body in lower case, without its parameters; may be empty."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    @property
    def has_body(self) -> bool:
        """Whether its head announces content."""
        return self.header("transfer-encoding") is not None or int(self.header("content-length") or "0") > 0

    def chunks(self, bytes_max: int) -> AsyncIterator[bytes]:
        """The body as it comes, once.

        Raises `PayloadTooLargeError` at once when the declared length is above
        `bytes_max`. The iterator raises it as soon as more has come, and
        `InvalidRequestError` when the body breaks off or its framing is wrong.
        """
        declared = self.header("content-length")
        if declared is not None and int(declared) > bytes_max:
            raise _too_large(f"the body has {declared} bytes", bytes_max)
        return _Bounded(self._body, bytes_max)

    async def read(self, bytes_max: int) -> bytes:
        """The whole body; raises like `chunks`."""
        return b"".join([piece async for piece in self.chunks(bytes_max)])


class _Bounded(AsyncIterator[bytes]):
    """`pieces`, up to `bytes_max` bytes; no generator, so that leaving it half-read needs no care."""

    def __init__(self, pieces: AsyncIterator[bytes], bytes_max: int) -> None:
        self._pieces = pieces
        self._bytes_max = bytes_max
        self._seen = 0

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        self._seen += len(piece)
        if self._seen > self._bytes_max:
            raise _too_large(f"the body has {self._seen} bytes or more", self._bytes_max)
        return piece


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A complete answer; the length is added when it is sent."""

    status: int = 200
    headers: Headers = ()
    body: bytes = b""


class StreamResponse(msgspec.Struct, frozen=True, kw_only=True):
    """An answer made while it is sent.

    `content` is entered before the head goes out, so that what its entry raises still
    becomes an ordinary error answer. It is left when its pieces end, when the client
    leaves, or when the server stops.
    """

    content: AbstractAsyncContextManager[AsyncIterator[bytes]]
    status: int = 200
    headers: Headers = ()


class Upgrade(msgspec.Struct, frozen=True, kw_only=True):
    """Hands the connection over: `run` gets a stream that starts with the request's own bytes."""

    run: Callable[[trio.abc.Stream], Awaitable[None]]


Reply: TypeAlias = Response | StreamResponse | Upgrade


def error_response(error: OrcaError, *, status: int | None = None, headers: Headers = ()) -> Response:
    """What is answered for `error`; `status` replaces the one of its class."""
    return Response(
        status=status or error.http_status,
        headers=(("content-type", "application/json"), ("cache-control", "no-store"), *headers),
        body=msgspec.json.encode(ErrorEnvelope(error=to_body(error))) + b"\n",
    )


def _too_large(what: str, bytes_max: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"{what}; at most {bytes_max} are taken here")


def _origin_form(target: str) -> str:
    """`target` without the scheme and host of an absolute form (RFC 9112 §3.2.2)."""
    for scheme in ("http://", "https://"):
        if target.lower().startswith(scheme):
            host, slash, rest = target[len(scheme) :].partition("/")
            return slash + rest if slash else "/" + host[host.find("?") :] if "?" in host else "/"
    if not target.startswith("/"):
        raise InvalidRequestError(f"the request target {target[:80]!r} is no path; write it like /v1/status")
    return target


def _decoded(segment: str, path: str) -> str:
    if _BAD_PERCENT.search(segment):
        raise InvalidRequestError(f"the path {path[:80]!r} has a % that two hex digits do not follow")
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"the path {path[:80]!r} is not UTF-8 where it is percent-encoded") from error


def _query(text: str) -> tuple[tuple[str, str], ...]:
    if _BAD_PERCENT.search(text):
        raise InvalidRequestError(f"the query {text[:80]!r} has a % that two hex digits do not follow")
    try:
        return tuple(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX))
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"the query {text[:80]!r} is not UTF-8 where it is percent-encoded") from error
    except ValueError as error:
        raise InvalidRequestError(f"the query has more than {QUERY_FIELDS_MAX} fields") from error
