"""The plain case of HTTP, read and written without h11. Pure.

Most requests come in one piece, without a body, and ask for nothing special; most
answers are short and whole. These are read and written here in a tenth of the time.
Whatever is not certainly plain is None here and h11's business: the same bytes then go
there. What is plain here means the same to h11, which the tests check.
"""

import re
from typing import Final

from node.runtime.wasm.wagi import Headers, Response

BYTES_MAX: Final = 8 * 1024
_HEADERS_MAX: Final = 64
_HEAD: Final = re.compile(
    rb"(GET|HEAD|OPTIONS|DELETE) (/[!-~]*) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~](?:[ -~]*[!-~])?\r\n)+)\r\n"
)
_NOT_PLAIN: Final = frozenset(
    (b"connection", b"content-length", b"expect", b"transfer-encoding", b"upgrade", b"te", b"trailer", b"keep-alive")
)
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[!-~](?:[\t -~]*[!-~])?")


def parse_request(data: bytes) -> tuple[bytes, bytes, Headers] | None:
    """Method, target and headers (names in lower case) of `data`, which is one whole plain request; or None."""
    if len(data) > BYTES_MAX:
        return None
    match = _HEAD.fullmatch(data)
    if match is None:
        return None
    headers: Headers = []
    hosts = 0
    for line in match[3].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        name = name.lower()
        if name in _NOT_PLAIN:
            return None
        hosts += name == b"host"
        headers.append((name, value))
    if hosts != 1 or len(headers) > _HEADERS_MAX:
        return None
    return match[1], match[2], headers


def compose_response(response: Response, body: bytes, *, is_head: bool) -> bytes | None:
    """A whole answer that leaves the connection open; None where h11 has to see to it.

    `is_head`: the request was HEAD, so the body is only counted.
    """
    if not 200 <= response.status <= 599 or response.status in (204, 304):
        return None
    lines = [b"HTTP/1.1 %d \r\n" % response.status]
    for name, value in response.headers:
        is_valid = _NAME.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None
        if not is_valid or name.lower() in _NOT_PLAIN:
            return None
        lines.append(b"%b: %b\r\n" % (name, value))
    lines.append(b"content-length: %d\r\n\r\n" % len(body))
    if not is_head:
        lines.append(body)
    return b"".join(lines)
