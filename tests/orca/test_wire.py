"""Frames come out as they went in, however the stream was cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.errors import PeerProtocolError
from orca.wire import FRAME_BYTES_MAX, FrameReader, encode_frame


@given(payloads=st.lists(st.binary(max_size=50), max_size=20), cuts=st.lists(st.integers(1, 30), min_size=1))
def test_any_cut_of_the_stream_gives_the_same_frames(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(encode_frame, payloads))
    reader = FrameReader()
    found: list[bytes] = []
    place = turn = 0
    while place < len(stream):
        step = cuts[turn % len(cuts)]
        found += reader.feed(stream[place : place + step])
        place, turn = place + step, turn + 1
    assert found == payloads
    assert reader.held_bytes == 0


def test_a_frame_that_is_too_long_is_refused_before_it_is_kept() -> None:
    reader = FrameReader(bytes_max=100)
    assert reader.feed(encode_frame(b"x" * 100)) == [b"x" * 100]
    with pytest.raises(PeerProtocolError, match="announces a frame of 101 bytes, and 100 is the most"):
        reader.feed((101).to_bytes(4, "big"))


def test_the_start_of_another_protocol_is_refused_at_once() -> None:
    with pytest.raises(PeerProtocolError, match="speaks another protocol"):
        FrameReader().feed(b"GET / HTTP/1.1\r\n")


def test_the_longest_frame_passes() -> None:
    reader = FrameReader()
    assert len(reader.feed(encode_frame(bytes(FRAME_BYTES_MAX)))[0]) == FRAME_BYTES_MAX


@given(data=st.binary(max_size=400))
def test_any_bytes_are_frames_or_refused_and_little_is_kept(data: bytes) -> None:
    reader = FrameReader(bytes_max=64)
    try:
        frames = reader.feed(data)
    except PeerProtocolError:
        return
    assert reader.held_bytes <= 64 + 4
    assert sum(len(frame) + 4 for frame in frames) + reader.held_bytes == len(data)
