"""Requests that two parsers could read differently never reach a workload (RFC 9112 §11.2).

Each refused case must give its status and an end of the connection, and the workload
must not have seen one byte. Each accepted case must reach it as exactly one request.
"""

import contextlib
import random

import h11
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from node.proxy.bodies import ChunkedReader
from node.proxy.faults import BadBodyError, BadHeadError
from node.proxy.heads import HeadScanner, parse_request_head
from tests.node.proxy.proxy_world import Peer, length_of, proxy_world

pytestmark = pytest.mark.integration

H = b"Host: a.org\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.org\r\n\r\n"
CHUNKED_POST = b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"

REFUSED: dict[str, tuple[bytes, int]] = {
    # Line ends and control bytes: RFC 9112 §2.2, RFC 9110 §5.5
    "bare LF after the request line": (b"GET / HTTP/1.1\n" + H + b"\r\n", 400),
    "bare LF after a field": (b"GET / HTTP/1.1\r\nHost: a.org\n\r\n", 400),
    "bare LF for the empty line": (b"GET / HTTP/1.1\r\n" + H + b"\n", 400),
    "only bare LFs": (b"GET / HTTP/1.1\nHost: a.org\n\n", 400),
    "bare CR in a field": (b"GET / HTTP/1.1\r\n" + H + b"X: a\rb\r\n\r\n", 400),
    "bare CR before a hidden field": (b"GET / HTTP/1.1\r\n" + H + b"X: a\rContent-Length: 5\r\n\r\n", 400),
    "double CR": (b"GET / HTTP/1.1\r\r\n" + H + b"\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\n" + H + b"X: a\x00b\r\n\r\n", 400),
    "NUL in a name": (b"GET / HTTP/1.1\r\n" + H + b"X\x00Y: a\r\n\r\n", 400),
    "NUL in the target": (b"GET /\x00 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "escape in a value": (b"GET / HTTP/1.1\r\n" + H + b"X: \x1b[31m\r\n\r\n", 400),
    "DEL in a value": (b"GET / HTTP/1.1\r\n" + H + b"X: \x7f\r\n\r\n", 400),
    "vertical tab before chunked": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    "form feed after the name": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding\x0c: chunked\r\n\r\n", 400),
    # The request line: RFC 9112 §3
    "two spaces": (b"GET  / HTTP/1.1\r\n" + H + b"\r\n", 400),
    "a tab instead of a space": (b"GET\t/ HTTP/1.1\r\n" + H + b"\r\n", 400),
    "a space at the end": (b"GET / HTTP/1.1 \r\n" + H + b"\r\n", 400),
    "a space at the start": (b" GET / HTTP/1.1\r\n" + H + b"\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\n" + H + b"\r\n", 400),
    "no version": (b"GET /\r\n" + H + b"\r\n", 400),
    "lower-case version": (b"GET / http/1.1\r\n" + H + b"\r\n", 400),
    "version 1.2": (b"GET / HTTP/1.2\r\n" + H + b"\r\n", 505),
    "version 2.0": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "version with three digits": (b"GET / HTTP/1.10\r\n" + H + b"\r\n", 400),
    "lower-case method": (b"get / HTTP/1.1\r\n" + H + b"\r\n", 400),
    "method with a colon": (b"GE:T / HTTP/1.1\r\n" + H + b"\r\n", 400),
    "a target that is no path": (b"GET admin HTTP/1.1\r\n" + H + b"\r\n", 400),
    "a fragment": (b"GET /a#b HTTP/1.1\r\n" + H + b"\r\n", 400),
    "a backslash in the path": (b"GET /a\\..\\b HTTP/1.1\r\n" + H + b"\r\n", 400),
    "bytes beyond ASCII in the target": (b"GET /\xc3\xa9 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "a target of another scheme": (b"GET ftp://a.org/ HTTP/1.1\r\n" + H + b"\r\n", 400),
    "user information in the target": (b"GET http://u:p@a.org/ HTTP/1.1\r\n" + H + b"\r\n", 400),
    "an asterisk for GET": (b"GET * HTTP/1.1\r\n" + H + b"\r\n", 400),
    "CONNECT": (b"CONNECT a.org:443 HTTP/1.1\r\n" + H + b"\r\n", 405),
    "TRACE": (b"TRACE / HTTP/1.1\r\n" + H + b"\r\n", 405),
    "TLS instead of HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    # Fields: RFC 9112 §5
    "folding": (b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n\r\n", 400),
    "folding with a tab": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding:\r\n\tchunked\r\n\r\n", 400),
    "folding of the first field": (b"GET / HTTP/1.1\r\n Host: a.org\r\n\r\n", 400),
    "a space before the colon": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\n" + H + b"garbage\r\n\r\n", 400),
    "an empty name": (b"GET / HTTP/1.1\r\n" + H + b": x\r\n\r\n", 400),
    "a name in quotes": (b"GET / HTTP/1.1\r\n" + H + b'"X": x\r\n\r\n', 400),
    "content_length": (b"POST / HTTP/1.1\r\n" + H + b"Content_Length: 5\r\n\r\nhello", 400),
    "transfer_encoding": (b"POST / HTTP/1.1\r\n" + H + b"Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "transfer.encoding": (b"POST / HTTP/1.1\r\n" + H + b"Transfer.Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    # Host: RFC 9112 §3.2
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET / HTTP/1.1\r\n" + H + b"Host: b.org\r\n\r\n", 400),
    "two equal Hosts": (b"GET / HTTP/1.1\r\n" + H + H + b"\r\n", 400),
    "an empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "a Host with a path": (b"GET / HTTP/1.1\r\nHost: a.org/b\r\n\r\n", 400),
    "a Host with user information": (b"GET / HTTP/1.1\r\nHost: u@a.org\r\n\r\n", 400),
    "a Host with a space": (b"GET / HTTP/1.1\r\nHost: a.org b.org\r\n\r\n", 400),
    "a list of Hosts": (b"GET / HTTP/1.1\r\nHost: a.org, b.org\r\n\r\n", 400),
    "a Host with a wild port": (b"GET / HTTP/1.1\r\nHost: a.org:99999\r\n\r\n", 400),
    "a Host with a broken address": (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    "a Host with an address that is none": (b"GET / HTTP/1.1\r\nHost: [1:2]\r\n\r\n", 400),
    # Framing: RFC 9112 §6
    "CL and TE": (
        b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "TE and CL": (
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two lengths": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello", 400),
    "two equal lengths": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "a list of lengths": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "a length with a sign": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: +5\r\n\r\nhello", 400),
    "a negative length": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: -5\r\n\r\nhello", 400),
    "a length in hex": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 0x5\r\n\r\nhello", 400),
    "a length with an underscore": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 1_0\r\n\r\nhellohello", 400),
    "a length with a fraction": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 5.0\r\n\r\nhello", 400),
    "an empty length": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length:\r\n\r\n", 400),
    "a length beyond 64 bits": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 18446744073709551621\r\n\r\nhello", 400),
    "two codings in two fields": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n", 400),
    "chunked twice": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
    "identity": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: identity\r\n\r\n", 400),
    "identity before chunked": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: identity, chunked\r\n\r\n", 400),
    "chunked not last": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
    "an unknown coding": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "almost chunked": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: xchunked\r\n\r\n", 400),
    "chunked in quotes": (b"POST / HTTP/1.1\r\n" + H + b'Transfer-Encoding: "chunked"\r\n\r\n', 400),
    "chunked with a parameter": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked;q=1\r\n\r\n", 400),
    "an empty coding": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding:\r\n\r\n", 400),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "Connection names the length": (
        b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 5\r\nConnection: content-length\r\n\r\nhello",
        400,
    ),
    "Connection names the host": (b"GET / HTTP/1.1\r\n" + H + b"Connection: close, Host\r\n\r\n", 400),
    "an unknown expectation": (b"POST / HTTP/1.1\r\n" + H + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\n", 417),
    # Sizes
    "a long target": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + H + b"\r\n", 414),
    "an endless request line": (b"GET /" + b"a" * 40000, 414),
    "a large head": (b"GET / HTTP/1.1\r\n" + H + b"X: " + b"a" * 40000 + b"\r\n\r\n", 431),
    "many fields": (b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n" * 101 + b"\r\n", 431),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_head_that_is_not_strictly_http_is_refused_and_never_forwarded(name: str) -> None:
    request, status = REFUSED[name]
    async with proxy_world() as world:
        upstream = await world.serve_by()
        answer = await world.ask(request + SMUGGLED if request.endswith(b"\r\n") else request)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1 ") == 1, "a second request was answered after a refusal"
        assert upstream.received == b""


BAD_CHUNKS: dict[str, bytes] = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a size that is no hex": b"5g\r\nhello\r\n0\r\n\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "a space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "a space after the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    "a bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "a bare LF after the data": b"5\r\nhello\n0\r\n\r\n",
    "no line end after the data": b"5\r\nhello0\r\n\r\n",
    "a bare CR after the size": b"5\rhello\r\n0\r\n\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a bare LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a control byte in an extension": b"5;a=\x01\r\nhello\r\n0\r\n\r\n",
    "an extension without a name": b"5;\r\nhello\r\n0\r\n\r\n",
    "an extension with an open quote": b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "an endless extension": b"5;" + b"a" * 2000 + b"\r\nhello\r\n0\r\n\r\n",
    "a bare LF after the last chunk": b"0\n\r\n",
    "a bare LF after the trailers": b"0\r\n\n",
    "a trailer that frames": b"0\r\nContent-Length: 5\r\n\r\n",
    "a trailer that looks like one that frames": b"0\r\nTransfer_Encoding: chunked\r\n\r\n",
    "a trailer that names a host": b"0\r\nHost: b.org\r\n\r\n",
    "a trailer that is no field": b"0\r\ngarbage\r\n\r\n",
    "a folded trailer": b"0\r\nX: a\r\n b\r\n\r\n",
}


async def record_one(peer: Peer) -> None:
    """Takes whatever comes and answers nothing."""
    while await peer.more():
        pass


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_a_malformed_chunk_is_refused_and_the_workload_never_sees_an_end(name: str) -> None:
    async with proxy_world() as world:
        upstream = await world.serve_by(record_one)
        answer = await world.ask(CHUNKED_POST + BAD_CHUNKS[name] + SMUGGLED)
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"smuggled" not in upstream.received
        assert not upstream.received.endswith(b"0\r\n\r\n")


ACCEPTED: dict[str, tuple[bytes, bytes, bytes]] = {
    # name: (sent, request line that must arrive, body that must arrive)
    "a plain GET": (b"GET /a?b=c HTTP/1.1\r\n" + H + b"\r\n", b"GET /a?b=c HTTP/1.1", b""),
    "an empty line first": (b"\r\nGET / HTTP/1.1\r\n" + H + b"\r\n", b"GET / HTTP/1.1", b""),
    "an absolute target": (b"GET http://A.org:80/x HTTP/1.1\r\nHost: b.org\r\n\r\n", b"GET /x HTTP/1.1", b""),
    "an absolute target without a path": (b"GET http://a.org?x HTTP/1.1\r\n" + H + b"\r\n", b"GET /?x HTTP/1.1", b""),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", b"OPTIONS * HTTP/1.1", b""),
    "an IPv6 host": (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", b"GET / HTTP/1.1", b""),
    "a length": (b"POST / HTTP/1.1\r\n" + H + b"content-length: 5\r\n\r\nhello", b"POST / HTTP/1.1", b"hello"),
    "a length with zeros": (
        b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 005\r\n\r\nhello",
        b"POST / HTTP/1.1",
        b"hello",
    ),
    "tabs around a length": (
        b"POST / HTTP/1.1\r\n" + H + b"Content-Length:\t5\t\r\n\r\nhello",
        b"POST / HTTP/1.1",
        b"hello",
    ),
    "chunks": (CHUNKED_POST + b"5\r\nhello\r\n0\r\n\r\n", b"POST / HTTP/1.1", b"5\r\nhello\r\n0\r\n\r\n"),
    "chunks with extensions and trailers": (
        CHUNKED_POST + b'005;a=b;c="d;\\"e"\r\nhello\r\n00;x\r\nChecksum: 1\r\n\r\n',
        b"POST / HTTP/1.1",
        b"5\r\nhello\r\n0\r\n\r\n",
    ),
    "Chunked in capitals": (
        b"POST / HTTP/1.1\r\n" + H + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1",
        b"0\r\n\r\n",
    ),
    "obs-text in a value": (b"GET / HTTP/1.1\r\n" + H + b"X: caf\xe9\r\n\r\n", b"GET / HTTP/1.1", b""),
    "HTTP/1.0 without a host": (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1", b""),
}


async def record_and_answer(peer: Peer) -> None:
    """Answers one request when its end by any framing is there."""
    head = await peer.head()
    if b"chunked" in head:
        await peer.until(b"0\r\n\r\n")
    else:
        await peer.exactly(length_of(head))
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await peer.rest()


@pytest.mark.parametrize("name", ACCEPTED)
async def test_a_proper_request_arrives_as_exactly_one_with_its_head_written_anew(name: str) -> None:
    request, line, body = ACCEPTED[name]
    async with proxy_world() as world:
        upstream = await world.serve_by(record_and_answer)
        client = await world.client()
        await client.send(request)
        assert (await client.answer()).endswith(b"\r\n\r\nok")
        head, _, arrived = upstream.received.partition(b"\r\n\r\n")
        assert head.startswith(line + b"\r\nHost: ")
        assert arrived == body
        assert head.lower().count(b"\r\nhost:") == 1
        assert head.count(b"\r\n") == head.count(b"\n")


def test_every_split_of_a_head_gives_the_same_verdict() -> None:
    """What arrives in pieces is judged like what arrives at once."""
    for raw, is_good in ((b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True), (b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", False)):
        for cut in range(1, len(raw)):
            scanner, buffer = HeadScanner(1000), bytearray()
            try:
                ends = []
                for piece in (raw[:cut], raw[cut:]):
                    buffer += piece
                    ends.append(scanner.find_end(buffer))
                assert is_good
                assert ends[-1] == len(raw)
            except BadHeadError:
                assert not is_good


def test_every_split_of_a_chunked_body_gives_the_same_bytes() -> None:
    raw = b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\nnext"
    for cut in range(len(raw)):
        reader, buffer = ChunkedReader(), bytearray()
        buffer += raw[:cut]
        body = reader.take(buffer)
        buffer += raw[cut:]
        body += reader.take(buffer)
        assert body == b"hello!"
        assert reader.is_over
        assert buffer == b"next"


def test_a_chunked_body_that_just_stops_is_an_error() -> None:
    reader = ChunkedReader()
    reader.take(bytearray(b"5\r\nhel"))
    with pytest.raises(BadBodyError):
        reader.on_end_of_stream()


def test_a_long_run_of_spaces_is_judged_in_no_time() -> None:
    """Field expressions must not go back over white space again and again."""
    with pytest.raises(BadHeadError):
        parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\nX: a" + b" \t" * 15000 + b"\x01\r\n\r\n")
    head = parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\nX: a" + b" \t" * 15000 + b"b\r\n\r\n")
    assert len(head.first(b"x")) == 30002


PIECES = [
    b"GET",
    b"POST",
    b" ",
    b"/",
    b"/a?b",
    b"http://a.org/",
    b"*",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"\r\n",
    b"\n",
    b"\r",
    b"\t",
    b"Host: a.org\r\n",
    b"Host:",
    b"Content-Length: 5\r\n",
    b"Content-Length:",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:",
    b"Connection: close\r\n",
    b"Upgrade: x\r\n",
    b"Expect: 100-continue\r\n",
    b"X",
    b":",
    b",",
    b"5",
    b"chunked",
    b"\x00",
    b"\x0b",
    b"\x0c",
    b"\x1f",
    b"\x7f",
    b"\x85",
    b"\xa0",
    b"\xff",
    b'"',
    b";",
    b"(",
    b"_",
    b"[::1]",
]
MUTATED = st.lists(st.sampled_from(PIECES), max_size=8).flatmap(
    lambda pieces: st.integers(0, 60).map(
        lambda at: (
            b"GET / HTTP/1.1\r\nHost: a.org\r\nX: y\r\n\r\n"[:at]
            + b"".join(pieces)
            + b"GET / HTTP/1.1\r\nHost: a.org\r\nX: y\r\n\r\n"[at:]
        )
    )
)


@settings(max_examples=1500, deadline=None)
@given(raw=MUTATED)
def test_whatever_the_strict_reading_takes_h11_takes_too(raw: bytes) -> None:
    """The strict reading may refuse more than h11, never less."""
    end = raw.find(b"\r\n\r\n") + 4
    try:
        head = parse_request_head(raw[:end])
    except BadHeadError:
        return
    oracle = h11.Connection(h11.SERVER)
    oracle.receive_data(raw[:end])
    event = oracle.next_event()
    assert isinstance(event, h11.Request)
    assert event.method == head.method
    assert len(event.headers) == len(head.fields)


async def test_a_flood_of_broken_requests_harms_no_other_connection() -> None:
    rng = random.Random(11)
    async with proxy_world() as world:
        await world.serve_by()
        good = await world.client()

        async def attack(payload: bytes) -> None:
            client = await world.client()
            with contextlib.suppress(trio.BrokenResourceError):
                await client.send(payload)
                await client.stream.send_eof()
                await client.rest()

        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    pieces = b"".join(rng.choices(PIECES, k=rng.randrange(12)))
                    nursery.start_soon(attack, pieces + b"\r\n\r\n" + rng.randbytes(rng.randrange(50)))
            await good.send(b"GET / HTTP/1.1\r\nHost: a.org\r\n\r\n")
            assert (await good.answer()).endswith(b"ok")
