"""The plain case against h11: what is plain must mean the same to both."""

import h11
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.runtime.wasm.calls import Call, Outcome, Pool, Ticker
from node.runtime.wasm.listener import Limits, Listener
from node.runtime.wasm.plain import BYTES_MAX, compose_response, parse_request
from node.runtime.wasm.sink import Sink
from node.runtime.wasm.wagi import Headers, Request, Response

GET = b"GET / HTTP/1.1\r\nhost: a\r\n"


def read_with_h11(data: bytes) -> tuple[bytes, bytes, Headers] | None:
    """The same from h11: one request without a body and nothing after it; None for all else."""
    http = h11.Connection(h11.SERVER)
    try:
        http.receive_data(data)
        request, end = http.next_event(), http.next_event()
    except h11.RemoteProtocolError:
        return None
    is_whole = isinstance(request, h11.Request) and isinstance(end, h11.EndOfMessage) and not http.trailing_data[0]
    if not is_whole or not isinstance(request, h11.Request):
        return None
    return request.method, request.target, list(request.headers)


@pytest.mark.parametrize(
    "data",
    [
        GET + b"\r\n",
        b"HEAD /a%20b?c=d&e HTTP/1.1\r\nHost: a:80\r\nX-Two: a b\r\nX-Two: c\r\nCookie: a=b; c\r\n\r\n",
        b"DELETE /x HTTP/1.1\r\nHOST: [::1]:8080\r\nAccept: */*\r\n\r\n",
    ],
)
def test_plain_request_is_read_as_h11_reads_it(data: bytes) -> None:
    assert parse_request(data) is not None
    assert parse_request(data) == read_with_h11(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GET,
        GET + b"\r\n" + GET + b"\r\n",
        GET + b"\r\nx",
        b"\r\n" + GET + b"\r\n",
        b"GET / HTTP/1.0\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"get / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET * HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nhost: a\r\n\r\n",
        GET + b"host: b\r\n\r\n",
        GET + b"content-length: 0\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\n\r\n",
        GET + b"connection: close\r\n\r\n",
        GET + b"Connection: upgrade\r\nupgrade: websocket\r\n\r\n",
        GET + b"expect: 100-continue\r\n\r\n",
        GET + b"x : a\r\n\r\n",
        GET + b"x:a\r\n\r\n",
        GET + b"x: \r\n\r\n",
        GET + b"x: a \r\n\r\n",
        GET + b"x: a\r\n b\r\n\r\n",
        GET + b"x: a\n\r\n",
        GET + b"x: a\rb\r\n\r\n",
        GET + b"x: a\0b\r\n\r\n",
        GET + b"x: \xff\r\n\r\n",
        GET + b"\r\n\r\n",
        GET.replace(b"\r", b"") + b"\n",
        GET + b"x: " + b"a" * BYTES_MAX + b"\r\n\r\n",
        GET + b"x: a\r\n" * 64 + b"\r\n",
    ],
)
def test_whatever_is_unusual_is_left_to_h11(data: bytes) -> None:
    assert parse_request(data) is None


LINES = [b"GET", b"HEAD", b"POST", b" ", b"/", b"/a?b", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n"]
FIELDS = [
    b"host",
    b": ",
    b":",
    b"a",
    b"x-y",
    b"Content-Length",
    b"0",
    b"3",
    b"connection",
    b"close",
    b"\t",
    b"\0",
    b"\xff",
]
PIECES = st.sampled_from([*LINES, *FIELDS, GET, b","])


@given(st.lists(PIECES, max_size=14), st.booleans())
def test_nothing_is_plain_that_h11_reads_otherwise(pieces: list[bytes], is_begun: bool) -> None:
    data = (GET if is_begun else b"") + b"".join(pieces)
    for whole in (data, data + b"\r\n\r\n", data + b": v\r\n\r\n"):
        found = parse_request(whole)
        assert found is None or found == read_with_h11(whole)


NAMES = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True)
VALUES = st.text("ab Z~!,;=", max_size=12)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_lines_of_any_proper_fields_are_read_as_h11_reads_them(fields: list[tuple[str, str]]) -> None:
    data = GET + "".join(f"{name}: {value}\r\n" for name, value in fields).encode() + b"\r\n"
    found = parse_request(data)
    assert found is None or found == read_with_h11(data)


def written_by_h11(response: Response, body: bytes, method: bytes) -> bytes:
    http = h11.Connection(h11.SERVER)
    http.receive_data(method + b" / HTTP/1.1\r\nhost: a\r\n\r\n")
    http.next_event()
    http.next_event()
    headers = [*response.headers, (b"content-length", str(len(body)).encode())]
    data = http.send(h11.Response(status_code=response.status, headers=headers)) or b""
    if method != b"HEAD":
        data += http.send(h11.Data(data=body)) or b""
    data += http.send(h11.EndOfMessage()) or b""
    assert (http.our_state, http.their_state) == (h11.DONE, h11.DONE)
    return data


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("status", [200, 201, 301, 404, 500, 599])
@pytest.mark.parametrize("body", [b"", b"hello", bytes(range(256))])
def test_plain_response_is_written_as_h11_writes_it(method: bytes, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-two", b"a\tb"), (b"x-two", b"c")]
    response = Response(status=status, headers=headers)
    assert compose_response(response, body, is_head=method == b"HEAD") == written_by_h11(response, body, method)


@pytest.mark.parametrize(
    ("status", "header"),
    [
        (204, (b"x", b"a")),
        (304, (b"x", b"a")),
        (101, (b"x", b"a")),
        (600, (b"x", b"a")),
        (200, (b"connection", b"close")),
        (200, (b"Transfer-Encoding", b"chunked")),
        (200, (b"content-length", b"1")),
        (200, (b"x", b"a\r\nset-cookie: b")),
        (200, (b"x", b"a\n")),
        (200, (b"x\n", b"a")),
        (200, (b"x y", b"a")),
        (200, (b"x", b"")),
        (200, (b"x", b"\xff")),
    ],
)
def test_response_that_is_unusual_is_left_to_h11(status: int, header: tuple[bytes, bytes]) -> None:
    assert compose_response(Response(status=status, headers=[header]), b"", is_head=False) is None


class Teller:
    """A handler that answers the path, with the status and the failure that the path asks for."""

    def run(self, request: Request, call: Call, sink: Sink) -> Outcome:
        status = int(request.target[1:4])
        sink.head = Response(status=status, headers=[(b"x-path", request.target)])
        sink.write(b"" if status == 204 else request.target + request.body)
        is_bad = request.target.endswith(b"trap")
        return Outcome(exit_code=134 if is_bad else 0, is_trap=is_bad)

    def read_head(self, sink: Sink, output: bytes, *, is_whole: bool) -> tuple[Response, bytes] | None:
        assert sink.head is not None
        return sink.head, output


@pytest.mark.integration
async def test_plain_and_unusual_requests_take_turns_on_one_connection() -> None:
    listener = Listener(Teller(), Pool("test-plain", 2), Ticker(lambda: None), lambda _text: None, Limits())
    port = await listener.bind("127.0.0.1", 0)
    client = h11.Connection(h11.CLIENT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.fail_after(20):
            async with stream:
                for method, path, body in [
                    ("GET", "/200/a", b""),
                    ("POST", "/200/b", b"body"),
                    ("GET", "/404/c", b""),
                    ("GET", "/204/d", b""),
                    ("HEAD", "/200/e", b""),
                    ("GET", "/200/f", b""),
                    ("POST", "/201/g", b"more"),
                    ("GET", "/200/h", b""),
                    ("GET", "/200/trap", b""),
                ]:
                    headers = [("host", "a"), *([("content-length", str(len(body)))] if body else [])]
                    data = client.send(h11.Request(method=method, target=path, headers=headers)) or b""
                    data += client.send(h11.Data(data=body)) or b"" if body else b""
                    await stream.send_all(data + (client.send(h11.EndOfMessage()) or b""))
                    status, received = await read_answer(client, stream)
                    if path.endswith("trap"):
                        assert status == 500
                        break
                    assert status == int(path[1:4])
                    assert received == (b"" if method == "HEAD" or status == 204 else path.encode() + body)
                    client.start_next_cycle()
                assert await stream.receive_some(1) == b"", "a failure ends the connection"
        nursery.cancel_scope.cancel()


@pytest.mark.integration
async def test_pipelined_and_split_requests_are_all_answered_in_order() -> None:
    listener = Listener(Teller(), Pool("test-plain", 2), Ticker(lambda: None), lambda _text: None, Limits())
    port = await listener.bind("127.0.0.1", 0)
    requests = [b"GET /200/%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(6)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        with trio.fail_after(20):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(requests[0])
                received = await stream.receive_some(65536)
                await stream.send_all(b"".join(requests[1:4]) + requests[4][:9])
                await trio.sleep(0.05)
                await stream.send_all(requests[4][9:] + requests[5])
                while b"/200/5\r\n" not in received or not received.endswith(b"/200/5"):
                    received += await stream.receive_some(65536)
        nursery.cancel_scope.cancel()
    bodies = [part.split(b"\r\n\r\n")[1] for part in received.split(b"HTTP/1.1 200 \r\n")[1:]]
    assert bodies == [b"/200/%d" % number for number in range(6)]


async def read_answer(client: h11.Connection, stream: trio.SocketStream) -> tuple[int, bytes]:
    status, received = 0, b""
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            received += event.data
        else:
            assert isinstance(event, h11.EndOfMessage), event
            return status, received
