"""What a `wasi:http` component may call: io, clocks, random, cli and http of WASI 0.2.

Plain Python on plain objects; `http_component` turns handles into these objects and
back. A class with `resource` becomes a handle of that type. Everything a guest reads is
there already and everything it writes is taken at once, so only clocks make it wait.
There is no file system (no preopened directory), there are no sockets, and a request
that the guest wants to send is refused with `HTTP-request-denied`.
"""

import itertools
import os
import time
from collections.abc import Callable
from typing import Any, Final

from wasmtime.component import Record, Variant

from node.runtime.base import LogStream
from node.runtime.wasm.calls import Call
from node.runtime.wasm.guest import Setup
from node.runtime.wasm.http_resources import (
    Fields,
    FutureTrailers,
    IncomingBody,
    IncomingRequest,
    InputStream,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    OutputStream,
    Pollable,
    RequestOptions,
    ResponseOutparam,
)
from node.runtime.wasm.sink import Sink
from node.runtime.wasm.wagi import Request, Response

_RESOURCE_NAMES: Final = (
    "error",
    "pollable",
    "input-stream",
    "output-stream",
    "fields",
    "incoming-request",
    "outgoing-request",
    "request-options",
    "response-outparam",
    "incoming-response",
    "incoming-body",
    "future-trailers",
    "outgoing-response",
    "outgoing-body",
    "future-incoming-response",
)
RESOURCES: Final = {name: number for number, name in enumerate(_RESOURCE_NAMES, 1)}
RESOURCES["headers"] = RESOURCES["trailers"] = RESOURCES["fields"]  # other names of the same type

_RANDOM_BYTES_MAX: Final = 2**20
_RESOURCES_MAX: Final = 100_000
_WRITE_BYTES_MAX: Final = 2**20
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
_HOSTS_OWN: Final = frozenset((b"content-length", b"date"))
OK: Final = Variant("ok")
ERR: Final = Variant("err")
_CLOSED: Final = Variant("err", Variant("closed"))


class Host:
    """One request's world: its resources by number, its output, its clock."""

    def __init__(
        self, request: Request, call: Call, sink: Sink, setup: Setup, write_log: Callable[[LogStream, bytes], None]
    ) -> None:
        self.request = request
        self.call = call
        self.sink = sink
        self.setup = setup
        self.table: dict[int, Any] = {}
        self.exit_code: int | None = None
        self.has_logged = False
        self._write_log = write_log
        self._numbers = itertools.count(1)

    def add(self, thing: Any) -> int:
        """The number of a new resource."""
        if len(self.table) >= _RESOURCES_MAX:
            raise OverflowError(f"more than {_RESOURCES_MAX} resources")
        number = next(self._numbers)
        self.table[number] = thing
        return number

    def add_request(self) -> int:
        """The request's number."""
        return self.add(IncomingRequest(self.request))

    def add_outparam(self) -> int:
        """The number of the place for the response."""
        return self.add(ResponseOutparam())

    def log(self, stream: LogStream) -> OutputStream:
        """A stream to the log."""

        def write(piece: bytes) -> None:
            self.has_logged = True
            self._write_log(stream, piece)

        return OutputStream(write)

    def discard(self, _piece: bytes) -> None:
        """For bodies that go nowhere."""


def _attempt(problem: str | None) -> Variant:
    return OK if problem is None else Variant("err", Variant(problem))


# wasi:io


def _read(_host: Host, stream: InputStream, size: int) -> Variant:
    piece = stream.read(size)
    return _CLOSED if piece is None else Variant("ok", piece)


def _skip(_host: Host, stream: InputStream, size: int) -> Variant:
    piece = stream.read(size)
    return _CLOSED if piece is None else Variant("ok", len(piece))


def _write(host: Host, stream: OutputStream, piece: bytes) -> Variant:
    stream.write(piece)
    return _CLOSED if host.call.reason is not None else OK


def _write_zeroes(host: Host, stream: OutputStream, size: int) -> Variant:
    return _write(host, stream, bytes(min(size, _WRITE_BYTES_MAX)))


def _splice(host: Host, target: OutputStream, source: InputStream, size: int) -> Variant:
    piece = source.read(size)
    if piece is None:
        return _CLOSED
    target.write(piece)
    return _CLOSED if host.call.reason is not None else Variant("ok", len(piece))


def _block(host: Host, pollable: Pollable) -> None:
    if not pollable.is_ready():
        host.call.sleep((pollable.at_ns - time.monotonic_ns()) / 1e9)


def _poll(host: Host, pollables: list[Pollable]) -> list[int]:
    if not pollables:
        raise ValueError("poll of an empty list")
    if not any(pollable.is_ready() for pollable in pollables):
        _block(host, min(pollables, key=lambda pollable: pollable.at_ns))
    ready = [index for index, pollable in enumerate(pollables) if pollable.is_ready()]
    return ready or [0]  # cut by a stop: the guest ends at its next step


# wasi:clocks, wasi:random, wasi:cli


def _wall_now(_host: Host) -> Record:
    return _datetime(time.time_ns())


def _datetime(nanoseconds: int) -> Record:
    made = Record()
    made.seconds, made.nanoseconds = divmod(nanoseconds, 10**9)  # type: ignore[attr-defined]
    return made


def _random_bytes(_host: Host, size: int) -> bytes:
    if size > _RANDOM_BYTES_MAX:
        raise ValueError(f"more than {_RANDOM_BYTES_MAX} random bytes at once")
    return os.urandom(size)


def _random_number(_host: Host) -> int:
    return int.from_bytes(os.urandom(8), "little")


def _exit(host: Host, status: Any) -> None:
    is_failure = status is not None and getattr(status, "tag", "ok") == "err"
    host.exit_code = 1 if is_failure else 0
    raise SystemError("the guest called exit")


# wasi:http/types


def _fields_from_list(_host: Host, entries: list[tuple[str, bytes]]) -> Variant:
    made = Fields()
    for name, value in entries:
        problem = made.append(name, value)
        if problem is not None:
            return Variant("err", Variant(problem))
    return Variant("ok", made)


def _fields_set(_host: Host, fields: Fields, name: str, values: list[bytes]) -> Variant:
    problem = fields.delete(name)
    for value in values:
        problem = problem or fields.append(name, value)
    return _attempt(problem)


def _method(_host: Host, incoming: IncomingRequest) -> Variant:
    name = incoming.request.method
    return Variant(name.lower()) if name in _METHODS else Variant("other", name)


def _consume(_host: Host, incoming: IncomingRequest) -> Variant:
    if incoming.is_consumed:
        return ERR
    incoming.is_consumed = True
    return Variant("ok", IncomingBody(incoming.request.body))


def _body_stream(_host: Host, body: IncomingBody) -> Variant:
    if body.is_taken:
        return ERR
    body.is_taken = True
    return Variant("ok", InputStream(body.content))


def _trailers_get(_host: Host, trailers: FutureTrailers) -> Variant:
    if trailers.is_taken:
        return Variant("some", Variant("err"))
    trailers.is_taken = True
    return Variant("some", Variant("ok", Variant("ok", None)))


def _set_response(host: Host, _outparam: ResponseOutparam, answer: Any) -> None:
    if isinstance(answer, OutgoingResponse):
        headers = [(name.lower().encode("ascii"), value.strip(b" \t")) for name, value in answer.fields.entries]
        headers = [header for header in headers if header[0] not in _HOSTS_OWN]
        host.sink.head = Response(status=answer.status, headers=headers)
        return
    words = getattr(answer, "tag", "an error")
    host.sink.head = Response(status=502, headers=[(b"content-type", b"text/plain; charset=utf-8")])
    host.sink.write(f"502 the component answered with {words}\n".encode())


def _set_status(_host: Host, response: OutgoingResponse, status: int) -> Variant:
    if not 200 <= status <= 599:
        return ERR
    response.status = status
    return OK


def _response_body(host: Host, response: OutgoingResponse) -> Variant:
    if response.has_body:
        return ERR
    response.has_body = True
    return Variant("ok", OutgoingBody(host.sink.write))


def _body_write(_host: Host, body: OutgoingBody) -> Variant:
    if body.is_taken:
        return ERR
    body.is_taken = True
    return Variant("ok", OutputStream(body.write))


def _request_body(host: Host, outgoing: OutgoingRequest) -> Variant:
    if outgoing.is_taken:
        return ERR
    outgoing.is_taken = True
    return Variant("ok", OutgoingBody(host.discard))


def _send(_host: Host, _outgoing: OutgoingRequest, _options: RequestOptions | None) -> Variant:
    return Variant("err", Variant("HTTP-request-denied"))


def _part(name: str) -> dict[str, Callable[..., Any]]:
    """Getter and setter of a part of an outgoing request."""

    def setter(_host: Host, outgoing: OutgoingRequest, value: Any) -> Variant:
        outgoing.parts[name] = value
        return OK

    return {
        f"[method]outgoing-request.{name}": lambda _host, outgoing: outgoing.parts.get(name),
        f"[method]outgoing-request.set-{name}": setter,
    }


def _timeout(name: str) -> dict[str, Callable[..., Any]]:
    """Getter and setter of a timeout."""

    def setter(_host: Host, options: RequestOptions, value: int | None) -> Variant:
        options.timeouts[name] = value
        return OK

    return {
        f"[method]request-options.{name}": lambda _host, options: options.timeouts.get(name),
        f"[method]request-options.set-{name}": setter,
    }


def _ready(_host: Host, _thing: Any) -> Pollable:
    return Pollable()


INTERFACES: Final[dict[str, dict[str, Callable[..., Any]]]] = {
    "wasi:io/error": {"[method]error.to-debug-string": lambda _host, error: str(error)},
    "wasi:io/poll": {
        "[method]pollable.ready": lambda _host, pollable: pollable.is_ready(),
        "[method]pollable.block": _block,
        "poll": _poll,
    },
    "wasi:io/streams": {
        "[method]input-stream.read": _read,
        "[method]input-stream.blocking-read": _read,
        "[method]input-stream.skip": _skip,
        "[method]input-stream.blocking-skip": _skip,
        "[method]input-stream.subscribe": _ready,
        "[method]output-stream.check-write": lambda _host, _stream: Variant("ok", _WRITE_BYTES_MAX),
        "[method]output-stream.write": _write,
        "[method]output-stream.blocking-write-and-flush": _write,
        "[method]output-stream.flush": lambda _host, _stream: OK,
        "[method]output-stream.blocking-flush": lambda _host, _stream: OK,
        "[method]output-stream.subscribe": _ready,
        "[method]output-stream.write-zeroes": _write_zeroes,
        "[method]output-stream.blocking-write-zeroes-and-flush": _write_zeroes,
        "[method]output-stream.splice": _splice,
        "[method]output-stream.blocking-splice": _splice,
    },
    "wasi:clocks/monotonic-clock": {
        "now": lambda _host: time.monotonic_ns(),
        "resolution": lambda _host: 1,
        "subscribe-instant": lambda _host, at_ns: Pollable(at_ns),
        "subscribe-duration": lambda _host, ns: Pollable(time.monotonic_ns() + ns),
    },
    "wasi:clocks/wall-clock": {"now": _wall_now, "resolution": lambda _host: _datetime(1)},
    "wasi:random/random": {"get-random-bytes": _random_bytes, "get-random-u64": _random_number},
    "wasi:random/insecure": {"get-insecure-random-bytes": _random_bytes, "get-insecure-random-u64": _random_number},
    "wasi:random/insecure-seed": {"insecure-seed": lambda host: (_random_number(host), _random_number(host))},
    "wasi:cli/environment": {
        "get-environment": lambda host: list(host.setup.env.items()),
        "get-arguments": lambda host: list(host.setup.args),
        "initial-cwd": lambda _host: None,
    },
    "wasi:cli/exit": {"exit": _exit},
    "wasi:cli/stdin": {"get-stdin": lambda _host: InputStream(b"")},
    "wasi:cli/stdout": {"get-stdout": lambda host: host.log(LogStream.STDOUT)},
    "wasi:cli/stderr": {"get-stderr": lambda host: host.log(LogStream.STDERR)},
    "wasi:cli/terminal-stdin": {"get-terminal-stdin": lambda _host: None},
    "wasi:cli/terminal-stdout": {"get-terminal-stdout": lambda _host: None},
    "wasi:cli/terminal-stderr": {"get-terminal-stderr": lambda _host: None},
    "wasi:filesystem/types": {"filesystem-error-code": lambda _host, _error: None},
    "wasi:filesystem/preopens": {"get-directories": lambda _host: []},
    "wasi:http/types": {
        "[constructor]fields": lambda _host: Fields(),
        "[static]fields.from-list": _fields_from_list,
        "[method]fields.get": lambda _host, fields, name: fields.get(name),
        "[method]fields.has": lambda _host, fields, name: bool(fields.get(name)),
        "[method]fields.set": _fields_set,
        "[method]fields.delete": lambda _host, fields, name: _attempt(fields.delete(name)),
        "[method]fields.append": lambda _host, fields, name, value: _attempt(fields.append(name, value)),
        "[method]fields.entries": lambda _host, fields: list(fields.entries),
        "[method]fields.clone": lambda _host, fields: Fields(list(fields.entries)),
        "[method]incoming-request.method": _method,
        "[method]incoming-request.path-with-query": lambda _host, r: r.request.target.decode("utf-8", "replace"),
        "[method]incoming-request.scheme": lambda _host, _request: Variant("HTTP"),
        "[method]incoming-request.authority": lambda _host, r: r.authority(),
        "[method]incoming-request.headers": lambda _host, r: r.fields,
        "[method]incoming-request.consume": _consume,
        "[method]incoming-body.stream": _body_stream,
        "[static]incoming-body.finish": lambda _host, _body: FutureTrailers(),
        "[method]future-trailers.subscribe": _ready,
        "[method]future-trailers.get": _trailers_get,
        "[static]response-outparam.set": _set_response,
        "[constructor]outgoing-response": lambda _host, fields: OutgoingResponse(fields),
        "[method]outgoing-response.status-code": lambda _host, response: response.status,
        "[method]outgoing-response.set-status-code": _set_status,
        "[method]outgoing-response.headers": lambda _host, response: response.fields,
        "[method]outgoing-response.body": _response_body,
        "[method]outgoing-body.write": _body_write,
        "[static]outgoing-body.finish": lambda _host, _body, _trailers: OK,
        "[constructor]outgoing-request": lambda _host, fields: OutgoingRequest(fields),
        "[method]outgoing-request.body": _request_body,
        "[method]outgoing-request.headers": lambda _host, outgoing: outgoing.fields,
        **_part("method"),
        **_part("path-with-query"),
        **_part("scheme"),
        **_part("authority"),
        "[constructor]request-options": lambda _host: RequestOptions(),
        **_timeout("connect-timeout"),
        **_timeout("first-byte-timeout"),
        **_timeout("between-bytes-timeout"),
        "http-error-code": lambda _host, _error: None,
    },
    "wasi:http/outgoing-handler": {"handle": _send},
}
