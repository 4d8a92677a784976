"""Anything at all from a peer: a counted drop or a close in words, never an exception, never growth.

`ORCA_FUZZ_CASES` is how many cases; one case is a session and a few dozen frames that are right, nearly right or noise.
"""

import faulthandler
import os
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from node.mesh.session import Abort, Consumed, End, Limits, Received, Release, Send, StreamId, Writable
from node.mesh.session.framing import HEAD, SESSION, Kind, encode
from node.mesh.session.words import Opening, encode_words, reason
from orca.model.units import Instant
from tests.node.mesh.session.pair import End as Side

CASES = int(os.environ.get("ORCA_FUZZ_CASES", "1500"))
SMALL = Limits(streams_max=8, stream_bytes=200, connection_bytes=500, opens_per_s=50, answers_bytes_max=2000)
HELLO = encode(Kind.HELLO, SESSION, encode_words(SMALL.hello(b"x")))


def frame(rng: random.Random) -> bytes:
    """One that is right, or right but for one thing."""
    stream = StreamId(rng.choice((0, 1, 1, 3, 3, 5, 7, 9, 2, 4, 6, rng.randrange(2**32))))
    kind = rng.choice(list(Kind))
    flags = rng.choice((0, 1, 1, 1, 2, rng.randrange(256)))
    payload = {
        Kind.HELLO: HELLO[HEAD.size :],
        Kind.OPEN: encode_words(Opening(purpose="p", subject=rng.randbytes(rng.randrange(20)))),
        Kind.DATA: rng.randbytes(rng.randrange(120)),
        Kind.WINDOW: rng.choice((b"\0\0\0\x50", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x10")),
        Kind.RESET: reason("internal", "why not"),
        Kind.GOAWAY: reason("not_available", "bye"),
        Kind.PING: rng.randbytes(8),
        Kind.PONG: (1).to_bytes(8, "big"),
    }.get(kind, b"")
    if rng.random() < 0.05:
        payload = rng.randbytes(rng.randrange(40))
    made = bytearray(encode(kind, stream, payload, flags))
    if rng.random() < 0.05:
        made[rng.randrange(len(made))] = rng.randrange(256)
    if rng.random() < 0.02:
        made[0] = rng.randrange(256)
    return bytes(made)


def use(side: Side, rng: random.Random) -> None:
    """A user that reads, writes and lets go as it likes."""
    if not side.streams:
        side.open()
    for stream in list(side.streams):
        choice = rng.randrange(8)
        if choice < 3 and side.streams[stream].unread:
            count = rng.randrange(side.streams[stream].unread + 1)
            side.streams[stream].unread -= count
            side.do(Consumed(stream=stream, count=count))
        elif choice == 3:
            side.do(Send(stream=stream, data=rng.randbytes(rng.randrange(100))))
        elif choice == 4:
            side.do(End(stream=stream))
        elif choice == 5:
            side.do(Release(stream=stream) if rng.random() < 0.5 else Abort(stream=stream, code="internal", message=""))
            del side.streams[stream]


class Watched(Side):
    """A user that forgets streams it has let go of must not hear of them again."""

    def check(self) -> None:
        assert self.session.streams <= 2 * SMALL.streams_max
        assert sum(half.unread for half in self.streams.values()) <= SMALL.connection_bytes + 2 * SMALL.stream_bytes


def test_frames_right_and_wrong_never_raise_and_never_grow() -> None:
    faulthandler.dump_traceback_later(300.0 + CASES / 100, exit=True)  # in place of the limit that every test has
    ends: dict[str, int] = {}
    for case in range(CASES):
        rng = random.Random(case)
        side = Watched(is_dialler=False, limits=SMALL, now=Instant(0.0))
        for at, piece in _pieces(rng):
            side.now = Instant(at * 0.01)
            try:
                side.do(Received(data=piece))
            except Exception as error:
                raise AssertionError(f"case {case}: {error!r}") from error
            if rng.random() < 0.5:
                use(side, rng)
            if rng.random() < 0.7:
                side.do(Writable(bytes_max=rng.choice((1, 50, 1000))))
                side.wire.clear()
            side.check()
        words = side.closed.message.split()[:4] if side.closed else ["open", "still"]
        ends[" ".join(words)] = ends.get(" ".join(words), 0) + 1
    assert len(ends) > 5, f"the cases reach few of the rules: {ends}"


def _pieces(rng: random.Random) -> list[tuple[int, bytes]]:
    sent = (HELLO if rng.random() < 0.95 else b"") + b"".join(frame(rng) for _ in range(rng.randrange(40)))
    pieces = []
    while sent:
        count = rng.choice((1, 9, 10, 11, 100, 1000))
        pieces.append(sent[:count])
        sent = sent[count:]
    return list(enumerate(pieces))


@settings(max_examples=min(CASES, 20_000), deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
def test_noise_never_raises_and_little_of_it_is_kept(pieces: list[bytes], is_greeted: bool) -> None:
    side = Side(is_dialler=False, limits=SMALL, now=Instant(0.0))
    for piece in [HELLO, *pieces] if is_greeted else pieces:
        side.do(Received(data=piece))
        side.do(Writable(bytes_max=10))
    assert side.session.streams <= SMALL.streams_max
