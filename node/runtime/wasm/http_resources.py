"""The things behind a guest's handles: streams, headers, requests and responses of `wasi:http`."""

import re
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

from wasmtime.component import Variant

from node.runtime.wasm.wagi import Request

_FIELDS_MAX: Final = 1000
_VALUE_BYTES_MAX: Final = 64 * 1024
_READ_BYTES_MAX: Final = 2**20
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING: Final = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings")
)


class Fields:
    """HTTP headers; the incoming ones and those of a sent head cannot be changed."""

    resource: ClassVar[str] = "fields"

    def __init__(self, entries: list[tuple[str, bytes]] | None = None, *, is_immutable: bool = False) -> None:
        self.entries = entries or []
        self.is_immutable = is_immutable

    def append(self, name: str, value: bytes) -> str | None:
        """Why it was refused, as a `header-error` case, or None."""
        if self.is_immutable:
            return "immutable"
        if _NAME.fullmatch(name) is None or _BAD_VALUE.search(value) is not None or len(value) > _VALUE_BYTES_MAX:
            return "invalid-syntax"
        if name.lower() in _FRAMING:
            return "forbidden"
        if len(self.entries) >= _FIELDS_MAX:
            return "forbidden"
        self.entries.append((name, value))
        return None

    def delete(self, name: str) -> str | None:
        """Why it was refused, or None."""
        if self.is_immutable:
            return "immutable"
        self.entries = [entry for entry in self.entries if entry[0].lower() != name.lower()]
        return None

    def get(self, name: str) -> list[bytes]:
        """All values of `name`."""
        return [value for key, value in self.entries if key.lower() == name.lower()]


class InputStream:
    """Bytes that are all there already."""

    resource: ClassVar[str] = "input-stream"

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def read(self, size: int) -> bytes | None:
        """Up to `size` bytes, None at the end."""
        if self.at >= len(self.content):
            return None
        piece = self.content[self.at : self.at + min(size, _READ_BYTES_MAX)]
        self.at += len(piece)
        return piece


class OutputStream:
    """Where a guest writes to: the response or the log."""

    resource: ClassVar[str] = "output-stream"

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write


class Pollable:
    """Ready at `at_ns` of the monotonic clock; 0 is always."""

    resource: ClassVar[str] = "pollable"

    def __init__(self, at_ns: int = 0) -> None:
        self.at_ns = at_ns

    def is_ready(self) -> bool:
        """Whether it is time."""
        return self.at_ns <= time.monotonic_ns()


class IncomingRequest:
    """The request that is being served."""

    resource: ClassVar[str] = "incoming-request"

    def __init__(self, request: Request) -> None:
        self.request = request
        entries = [(name.decode("ascii"), value) for name, value in request.headers]
        self.fields = Fields([e for e in entries if e[0] not in _FRAMING], is_immutable=True)
        self.is_consumed = False

    def authority(self) -> str | None:
        """The Host header."""
        found = self.fields.get("host")
        return found[0].decode("utf-8", "replace") if found else None


class IncomingBody:
    """The request's body, read once."""

    resource: ClassVar[str] = "incoming-body"

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.is_taken = False


class FutureTrailers:
    """There are none, and that is known at once."""

    resource: ClassVar[str] = "future-trailers"

    def __init__(self) -> None:
        self.is_taken = False


class ResponseOutparam:
    """Takes the one response."""

    resource: ClassVar[str] = "response-outparam"


class OutgoingResponse:
    """A response head in the making."""

    resource: ClassVar[str] = "outgoing-response"

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.status = 200
        self.has_body = False


class OutgoingBody:
    """Where the body of a response goes."""

    resource: ClassVar[str] = "outgoing-body"

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write
        self.is_taken = False


class OutgoingRequest:
    """A request that the guest would like to send; it is built and then refused."""

    resource: ClassVar[str] = "outgoing-request"

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.parts: dict[str, Any] = {"method": Variant("get")}
        self.is_taken = False


class RequestOptions:
    """Timeouts of an outgoing request."""

    resource: ClassVar[str] = "request-options"

    def __init__(self) -> None:
        self.timeouts: dict[str, int | None] = {}
