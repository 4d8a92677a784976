"""Whatever is asked, the API answers in one shape and lives on."""

from urllib.parse import quote

import msgspec
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.api.routes import ROUTES
from orca.errors import ErrorEnvelope, error_classes
from tests.node.api.control import FakeControl
from tests.node.api.raw import Answer, parse, serve_in_memory

SEGMENTS = ("default", "web", "", "a/b", "aaaaaaaaaaaa", "sha256:" + "0" * 64, "é", "..")
PATHS = st.one_of(
    st.builds(
        lambda route, words: "/".join(
            quote(words.pop(), safe="") if part.startswith("{") else part for part in route.path.split("/")
        ),
        st.sampled_from(ROUTES),
        st.lists(st.sampled_from(SEGMENTS), min_size=3, max_size=3),
    ),
    st.text(max_size=20).map(lambda text: "/" + quote(text)),
)
NAMES = st.sampled_from(("service", "after", "limit", "command", "tag", "arg", "tail", "project", "x", "rows"))
VALUES = st.one_of(st.sampled_from(("default/web", "1", "-1", "true", "", "é", "9" * 30)), st.text(max_size=8))
QUERIES = st.lists(st.tuples(NAMES, VALUES), max_size=3).map(
    lambda pairs: "&".join(f"{name}={quote(value)}" for name, value in pairs)
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        (b"", b"{}", b"[]", b'{"replicas":1}', b'{"specs":[]}', b"[" * 5000, b'{"replicas":1e999}', b"\xff")
    ),
)
MEDIA = st.sampled_from(("application/json", "application/toml", "application/yaml", "application/x-tar", "text/plain"))
METHODS = st.sampled_from(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))


async def exchange(wire: bytes) -> Answer:
    client, server = trio.testing.memory_stream_pair()
    received = b""
    with trio.fail_after(60):  # a hang is a failure with an example, not a run that never ends
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_in_memory, FakeControl(), server)
            await client.send_all(wire)
            while b"\r\n\r\n" not in received:
                piece = await client.receive_some()
                assert piece, f"the connection ended after {received!r}"
                received += piece
            await client.send_eof()  # a stream that follows ends with this, everything else is whole by itself
            while piece := await client.receive_some():
                received += piece
            nursery.cancel_scope.cancel()
    return parse(received)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(METHODS, PATHS, QUERIES, MEDIA, BODIES)
def test_every_request_gets_an_answer_and_every_error_one_shape(
    method: str, path: str, query: str, media: str, body: bytes
) -> None:
    head = f"{method} {path}?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = trio.run(exchange, head.encode() + body)
    assert answer.status != 500, answer.body
    if answer.status >= 400 and method != "HEAD":
        assert msgspec.json.decode(answer.body, type=ErrorEnvelope).error.code in error_classes()
