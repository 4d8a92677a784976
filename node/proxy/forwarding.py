"""What is sent on, what is cut, and what the proxy says of itself: pure."""

import re
from typing import Final

from node.proxy.heads import Field, Framing, RequestHead, ResponseHead, spelled_plainly

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy",  # never a real field: CGI-like workloads would read it as HTTP_PROXY
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
        b"content-length",
    }
)
"""RFC 9110 §7.6.1; the two framing fields are written anew from what was understood."""
SAID_BY_PROXIES: Final = frozenset(
    {
        b"forwarded",
        b"x-forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-forwarded-ssl",
        b"x-real-ip",
        b"x-request-id",
    }
)
REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._~+/=-]{1,128}")
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
BODY_USUAL: Final = frozenset({b"POST", b"PUT", b"PATCH"})


def is_replayable(head: RequestHead) -> bool:
    """Whether sending it twice does no harm and is possible (RFC 9110 §9.2.2)."""
    return head.method in _IDEMPOTENT and not head.has_body


def may_reuse_after(head: RequestHead) -> bool:
    """Whether the target surely read the whole request.

    A program that ignores the body of a GET would take it for the next request.
    """
    return not head.has_body or head.method in BODY_USUAL


def sane_request_id(head: RequestHead) -> bytes:
    """The client's own request id when it is short and plain, else empty."""
    value = head.first(b"x-request-id")
    return value if REQUEST_ID.fullmatch(value) else b""


def request_fields(
    head: RequestHead, *, peer: str, scheme: str, request_id: bytes, prefix: str, host: str, is_trusted: bool
) -> list[Field]:
    """The fields to send to a target.

    `peer` is the client's address. What it says about proxies before us is replaced, or
    continued when `is_trusted`. `prefix` is what `strip_path` cut off, else empty. `host`
    stands in where an HTTP/1.0 client named none.
    """
    cut = HOP_BY_HOP | {b"host", b"expect"} | set(head.listed)
    fields: list[Field] = [(b"Host", (head.host or host).encode("ascii"))]
    for name, value in head.fields:
        lower = name.lower()
        if lower in cut or spelled_plainly(lower) in SAID_BY_PROXIES:
            continue
        fields.append((name, value))
    chain = peer.encode("ascii")
    proto, seen_host = scheme.encode("ascii"), (head.host or host).encode("ascii")
    if is_trusted:
        earlier = [value for name, value in head.fields if name.lower() == b"x-forwarded-for" and value]
        chain = b", ".join((*earlier, chain))
        proto = head.first(b"x-forwarded-proto") or proto
        seen_host = head.first(b"x-forwarded-host") or seen_host
    fields.append((b"X-Forwarded-For", chain))
    fields.append((b"X-Forwarded-Proto", proto))
    fields.append((b"X-Forwarded-Host", seen_host))
    if prefix:
        fields.append((b"X-Forwarded-Prefix", prefix.encode("ascii", "ignore")))
    fields.append((b"X-Request-Id", request_id))
    if head.framing is Framing.CHUNKED:
        fields.append((b"Transfer-Encoding", b"chunked"))
    elif head.framing is Framing.LENGTH:
        fields.append((b"Content-Length", b"%d" % head.length))
    if head.expects_continue:
        fields.append((b"Expect", b"100-continue"))
    if head.upgrade:
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", head.upgrade)]
    return fields


def response_fields(head: ResponseHead, request: RequestHead, *, request_id: bytes) -> list[Field]:
    """The end-to-end fields of a target's answer, and the framing that the client gets.

    A body of unknown length becomes chunked for HTTP/1.1 and ends with the connection
    for HTTP/1.0. The Content-Length of an answer without a body (HEAD, 304) stays.
    """
    cut = HOP_BY_HOP | set(head.listed)
    fields = [(name, value) for name, value in head.fields if name.lower() not in cut]
    length = next((value for name, value in head.fields if name.lower() == b"content-length"), None)
    if head.framing in (Framing.CHUNKED, Framing.UNTIL_CLOSE):
        if request.minor == 1:
            fields.append((b"Transfer-Encoding", b"chunked"))
    elif length is not None and head.status >= 200 and head.status != 204:
        fields.append((b"Content-Length", length))
    if head.status == 101:
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", head.upgrade)]
    elif head.status >= 200 and not any(name.lower() == b"x-request-id" for name, _ in fields):
        fields.append((b"X-Request-Id", request_id))
    return fields


def is_answer_to_upgrade(head: ResponseHead, request: RequestHead) -> bool:
    """Whether a 101 names a protocol that the client asked for (RFC 9110 §15.2.2)."""
    asked = {part.strip().lower() for part in request.upgrade.split(b",") if part.strip()}
    given = {part.strip().lower() for part in head.upgrade.split(b",") if part.strip()}
    return bool(given) and given <= asked
