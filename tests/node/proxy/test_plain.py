"""The fast lane's reading of heads: whatever it takes, the long way and h11 take with the same meaning.

The judge is the long way itself: a head is read by both, what each would send on is compared byte for byte.
"""

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from node.proxy.forwarding import request_fields, response_fields, sane_request_id
from node.proxy.heads import parse_request_head, parse_response_head
from node.proxy.plain import LINES_KEPT, PlainReader, PlainRequest
from node.proxy.routes import normalize_host

LINES = (
    *(b"Host: a.org", b"host:A.ORG:81", b"Host: [::1]:8", b"HOST:\ta.org ", b"Host: a/b", b"Host:"),
    *(b"Content-Length: 5", b"Content-Length: 0", b"content-length: 007", b"Content-Length: +5", b"Content_Length: 5"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer.Encoding: chunked", b"TE: trailers"),
    *(b"Connection: close", b"connection: Keep-Alive", b"Connection: close, X-A", b"Connection:", b"Upgrade: h2c"),
    *(b"Expect: 100-continue", b"Keep-Alive: 5", b"Proxy: x", b"Trailer: X", b"Proxy-Connection: close"),
    *(
        b"X-Forwarded-For: 6.6.6.6",
        b"X_Forwarded_Host: b",
        b"Forwarded: for=x",
        b"X-Request-Id: abc",
        b"X-Request-Id: <",
    ),
    *(b"Accept: */*", b"Cookie: a=b; c=d", b"X: ", b"X:y", b"X:  y\t", b" X: folded", b"X : y", b": y", b"X", b""),
    *(
        b"X: a\x00",
        b"X: a\rb",
        b"X: a\nHost: b",
        b"X: \xff\xfe",
        b"X-Request-Id: <",
        b"X\x80: a",
        b"Date: now",
        b"Server: x",
    ),
)
REQUEST_LINES = (
    *(b"GET / HTTP/1.1", b"HEAD /a?b HTTP/1.1", b"POST /x HTTP/1.1", b"DELETE /%41 HTTP/1.1", b"OPTIONS * HTTP/1.1"),
    *(b"GET / HTTP/1.0", b"GET  / HTTP/1.1", b"get / HTTP/1.1", b"GET /a#b HTTP/1.1", b"GET /a\\b HTTP/1.1"),
    *(b"GET http://c.org/ HTTP/1.1", b"CONNECT a:1 HTTP/1.1", b"GET /\xc3 HTTP/1.1", b"GET / HTTP/1.1 ", b"GET /"),
)
STATUS_LINES = (
    *(b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 404", b"HTTP/1.1 500 "),
    *(b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 Switch", b"HTTP/1.0 200 OK", b"HTTP/1.1 600 X", b"HTTP/1.1  200 OK"),
    *(b"HTTP/2 200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 200 \xe9t\xe9", b"HTTP/1.1 200 a\x01"),
)
MUTATIONS = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=2)), max_size=2)


def _mutated(raw: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    for place, new in changes:
        at = place % (len(raw) + 1)
        raw = raw[:at] + new + raw[at + 1 :]
    return raw


def _sent_the_long_way(raw: bytes, request_id: bytes) -> bytes:
    """What `heads`, `forwarding` and h11 make of a request."""
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(raw)
    judge.next_event()
    head = parse_request_head(raw)
    fields = request_fields(
        head, peer="9.9.9.9", scheme="http", request_id=request_id, prefix="", host="", is_trusted=False
    )
    return h11.Connection(h11.CLIENT).send(h11.Request(method=head.method, target=head.target, headers=fields)) or b""


def _sent_in_the_lane(request: PlainRequest, request_id: bytes) -> bytes:
    request.request_id = request_id
    return request.forwarded_bytes(b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: ")


READER = PlainReader(100, 8192)


@given(st.sampled_from(REQUEST_LINES), st.lists(st.sampled_from(LINES), max_size=8), MUTATIONS)
@settings(max_examples=400, deadline=None)
def test_what_is_taken_of_requests_is_what_the_long_way_sends(
    line: bytes, fields: list[bytes], changes: list[tuple[int, bytes]]
) -> None:
    head = _mutated(b"\r\n".join([line, *fields]), changes)
    request = READER.read_request(head)
    if request is None or b"\r\n\r\n" in head + b"\r\n":
        return
    raw = head + b"\r\n\r\n"
    long = parse_request_head(raw)
    assert (request.method, request.target, request.length) == (long.method, long.target, long.length)
    assert (request.host, request.path) == (normalize_host(long.host), long.path)
    assert request.is_last == (not long.wants_keep_alive)
    assert request.request_id == sane_request_id(long)
    assert not long.upgrade
    assert not long.expects_continue
    assert _sent_in_the_lane(request, b"r-1") == _sent_the_long_way(raw, b"r-1")


@given(
    st.sampled_from(STATUS_LINES), st.lists(st.sampled_from(LINES), max_size=6), MUTATIONS, st.booleans(),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_what_is_taken_of_answers_is_what_the_long_way_sends(
    line: bytes, fields: list[bytes], changes: list[tuple[int, bytes]], is_head: bool
) -> None:
    head = _mutated(b"\r\n".join([line, *fields]), changes)
    method = b"HEAD" if is_head else b"GET"
    answer = READER.read_response(head, method)
    if answer is None or b"\r\n\r\n" in head + b"\r\n":
        return
    raw = head + b"\r\n\r\n"
    long = parse_response_head(raw, method)
    assert (answer.status, answer.framing, answer.length) == (long.status, long.framing, long.length)
    assert answer.is_last == (not long.may_be_followed)
    asked = parse_request_head(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    judge.next_event()
    sent = h11.Response(
        status_code=long.status, headers=response_fields(long, asked, request_id=b"r"), reason=long.reason
    )
    lines = answer.lines if answer.has_request_id else [*answer.lines, b"X-Request-Id: r"]
    assert sorted(b"\r\n".join([*lines, b"\r\n"]).split(b"\r\n")) == sorted((judge.send(sent) or b"").split(b"\r\n"))


def test_everyday_heads_are_plain() -> None:
    reader = PlainReader(100, 8192)
    head = b"GET /a?b=c HTTP/1.1\r\nHost: Web.Example:80\r\nAccept: */*\r\nCookie: a=b\r\nConnection: keep-alive"
    for _ in range(2):
        request = reader.read_request(head)
        assert request is not None
        assert (request.host, request.path, request.lines) == ("web.example", "/a", [b"Accept: */*", b"Cookie: a=b"])
    answer = reader.read_response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive", b"GET")
    assert answer is not None
    assert answer.length == 3
    assert not answer.is_last


def test_what_is_remembered_stays_bounded_and_right() -> None:
    reader = PlainReader(100, 8192)
    for number in range(3 * LINES_KEPT):
        request = reader.read_request(b"GET / HTTP/1.1\r\nHost: a\r\nX: %d" % number)
        assert request is not None
        assert request.lines == [b"X: %d" % number]
