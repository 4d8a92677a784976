"""WAGI, pure: an HTTP request as an environment, and a program's output as a response.

WAGI is CGI (RFC 3875) for WebAssembly. The one deliberate gap: a `Proxy` request header
never becomes `HTTP_PROXY`, which many programs take for their own proxy setting
(httpoxy, CVE-2016-5385), and names with an underscore are dropped because they look
like others once `-` has become `_`.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

HEAD_BYTES_MAX: Final = 64 * 1024
"""The longest response head that is accepted."""

_HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_FRAMING: Final = _HOP_BY_HOP | {b"content-length", b"date"}
_NOT_PASSED: Final = _HOP_BY_HOP | {b"proxy", b"content-length", b"content-type"}
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_STATUS: Final = re.compile(rb"([1-9][0-9]{2})(?: .*)?")
_BAD_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_END: Final = re.compile(rb"\r?\n\r?\n")

Headers = list[tuple[bytes, bytes]]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the listener read it; header names are in lower case."""

    method: str
    target: bytes
    http_version: str
    headers: Headers
    body: bytes = b""
    remote_host: str = "127.0.0.1"
    local_port: int = 0


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A response head; framing headers are the listener's business."""

    status: int
    headers: Headers


class MalformedOutputError(Exception):
    """The guest's output is no response."""


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request target in origin or absolute form."""
    if not target.startswith(b"/"):
        _, found, rest = target.partition(b"://")
        target = b"/" + rest.partition(b"/")[2] if found else target
    path, _, query = target.partition(b"?")
    return path, query


def make_environment(request: Request, base: Mapping[str, str]) -> dict[str, str]:
    """`base` and the request's own variables, which win.

    Raises ValueError for a path that no environment can hold (a NUL).
    """
    raw_path, query = split_target(request.target)
    path = unquote_to_bytes(raw_path)
    if b"\0" in path or b"\0" in query:
        raise ValueError("the request's path contains a NUL")
    passed: dict[str, str] = {}
    content_type, host = "", ""
    for name, value in request.headers:
        if name == b"content-type":
            content_type = value.decode("utf-8", "replace")
        if name in _NOT_PASSED or b"_" in name:
            continue
        text = value.decode("utf-8", "replace")
        key = "HTTP_" + name.decode("ascii").upper().replace("-", "_")
        if name == b"host":
            host = text
        if key in passed:
            text = passed[key] + ("; " if name == b"cookie" else ", ") + text
        passed[key] = text
    server_name, _, server_port = host.partition(":") if not host.startswith("[") else (host, "", "")
    path_text = raw_path.decode("utf-8", "replace")
    query_text = query.decode("utf-8", "replace")
    env = {**base, **passed}
    env.update(
        GATEWAY_INTERFACE="CGI/1.1",
        SERVER_SOFTWARE="Orca",
        SERVER_PROTOCOL=f"HTTP/{request.http_version}",
        SERVER_NAME=server_name or "localhost",
        SERVER_PORT=server_port or str(request.local_port),
        REQUEST_METHOD=request.method,
        SCRIPT_NAME="",
        PATH_INFO=path.decode("utf-8", "replace"),
        PATH_TRANSLATED=path.decode("utf-8", "replace"),
        QUERY_STRING=query_text,
        REMOTE_ADDR=request.remote_host,
        REMOTE_HOST=request.remote_host,
        CONTENT_TYPE=content_type,
        CONTENT_LENGTH=str(len(request.body)),
        X_RAW_PATH_INFO=path_text,
        X_FULL_URL=f"http://{host or 'localhost'}{path_text}" + (f"?{query_text}" if query_text else ""),
    )
    return env


def parse_response(output: bytes, *, is_whole: bool) -> tuple[Response, bytes] | None:
    """The head at the start of `output` and the bytes of the body after it.

    None when more output is needed, which cannot be when `is_whole`. Raises
    `MalformedOutputError`.
    """
    end = _END.search(output, 0, HEAD_BYTES_MAX)
    if output[:1] == b"\n" or output[:2] == b"\r\n":
        raise MalformedOutputError("it begins with an empty line instead of a header")
    if end is None:
        if len(output) > HEAD_BYTES_MAX:
            raise MalformedOutputError(f"its head is longer than {HEAD_BYTES_MAX} bytes")
        if is_whole:
            raise MalformedOutputError("it has no empty line between headers and body" if output else "it is empty")
        return None
    return _parse_head(output[: end.start()]), output[end.end() :]


def _parse_head(head: bytes) -> Response:
    status: int | None = None
    headers: Headers = []
    names: set[bytes] = set()
    for line in head.replace(b"\r\n", b"\n").split(b"\n"):
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or _NAME.fullmatch(name) is None or _BAD_VALUE.search(value) is not None:
            raise MalformedOutputError(f"{line[:80]!r} is not a header line")
        name = name.lower()
        names.add(name)
        if name == b"status":
            match = _STATUS.fullmatch(value)
            if match is None or int(match[1]) < 200 or int(match[1]) > 599:
                raise MalformedOutputError(f"{value[:40]!r} is not a status of 200 to 599")
            status = int(match[1])
        elif name not in _FRAMING:
            headers.append((name, value))
    if not names & {b"content-type", b"location", b"status"}:
        raise MalformedOutputError("none of Content-Type, Location and Status is there")
    return Response(status=status or (302 if b"location" in names else 200), headers=headers)
