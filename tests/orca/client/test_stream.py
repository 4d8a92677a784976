"""Lines and events out of bytes, however these were cut."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from orca.client.stream import LineSplitter, SseParser

WIRE = b': hello\n\nid: 7\nevent: event\ndata: {"a":1}\n\ndata: x\r\ndata: y\r\n\r\nevent: lost\n\nretry: 5\ndata:z\n\n'


def cut(wire: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(wire) + 1) for place in places), len(wire)]
    return [wire[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(st.integers(0, 10_000), max_size=30))
def test_events_do_not_depend_on_how_the_bytes_are_cut(places: list[int]) -> None:
    parser = SseParser()
    found = [message for piece in cut(WIRE, places) for message in parser.feed(piece)]
    assert [(m.event, m.data, m.id) for m in found] == [
        ("event", b'{"a":1}', "7"),
        ("message", b"x\ny", "7"),
        ("message", b"z", "7"),
    ]


@given(
    st.lists(st.binary(max_size=5).filter(lambda b: b"\n" not in b and not b.endswith(b"\r"))),
    st.lists(st.integers(0, 999)),
)
def test_lines_do_not_depend_on_how_the_bytes_are_cut(lines: list[bytes], places: list[int]) -> None:
    splitter = LineSplitter()
    wire = b"".join(line + b"\n" for line in lines) + b"rest"
    assert [line for piece in cut(wire, places) for line in splitter.feed(piece)] == lines
    assert splitter.rest == b"rest"
