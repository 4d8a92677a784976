"""What the peer may send, and what it must be told of what was taken."""

from collections.abc import Mapping

from node.mesh.session.framing import SESSION, Kind, Priority, StreamId, encode
from node.mesh.session.limits import Limits
from node.mesh.session.streams import Stream
from orca.errors import PeerProtocolError


class Incoming:
    """The books of credit that this side gives: of the whole session here, of each stream in it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._allowance = limits.connection_bytes
        self._owed = 0
        self._owing: dict[StreamId, None] = {}

    @property
    def has_output(self) -> bool:
        """`windows` would find something."""
        return bool(self._owing) or self._owes_session()

    def _owes_session(self) -> bool:
        return self._owed > 0 and self._owed * 4 >= self._limits.connection_bytes

    def spend(self, flags: int, size: int) -> None:
        """Bytes came; raises PeerProtocolError when they are more than all streams may have under way."""
        if flags != Priority.URGENT:
            if size > self._allowance:
                raise PeerProtocolError("a peer sends more than the window of the connection allows")
            self._allowance -= size

    def waste(self, flags: int, size: int) -> None:
        """Bytes that were spent are read by nobody."""
        if flags != Priority.URGENT:
            self._owed += size

    def arrive(self, stream: Stream, flags: int, size: int) -> None:
        """They are for `stream`; raises PeerProtocolError when it may not have them."""
        if stream.is_finished or size > stream.allowance or flags != stream.priority:
            raise PeerProtocolError(f"a peer sends what its stream {stream.id} does not allow")
        stream.allowance -= size
        stream.unread += size

    def take(self, stream: Stream, count: int) -> None:
        """Its user took so many bytes."""
        assert 0 <= count <= stream.unread, f"{count} bytes were taken of {stream.unread}"
        stream.unread -= count
        self.waste(stream.priority, count)
        if not stream.is_finished:
            stream.owed += count
            if stream.owed * 4 >= self._limits.stream_bytes:
                self._owing[stream.id] = None

    def forgo(self, stream: Stream) -> None:
        """The peer sends no more on it, so it needs no window."""
        self._owing.pop(stream.id, None)

    def drop(self, stream: Stream) -> None:
        """Nobody takes what came for it."""
        self.forgo(stream)
        self.waste(stream.priority, stream.unread)
        stream.unread = 0

    def clear(self) -> None:
        """The session is over."""
        self._owing.clear()
        self._owed = 0

    def windows(self, streams: Mapping[StreamId, Stream], parts: list[bytes | memoryview]) -> None:
        """Tell the peer what was taken."""
        if self._owes_session():
            parts.append(encode(Kind.WINDOW, SESSION, self._owed.to_bytes(4, "big")))
            self._allowance += self._owed
            self._owed = 0
        for number in self._owing:
            stream = streams[number]
            parts.append(encode(Kind.WINDOW, number, stream.owed.to_bytes(4, "big")))
            stream.allowance += stream.owed
            stream.owed = 0
        self._owing.clear()

    def check_invariants(self, streams: Mapping[StreamId, Stream]) -> None:
        """Raise AssertionError when the books do not balance."""
        unread = 0
        for stream in streams.values():
            assert stream.allowance >= 0
            unread += stream.unread if stream.priority is not Priority.URGENT else 0
            if not stream.is_released:
                held, whole = stream.allowance + stream.unread + stream.owed, self._limits.stream_bytes
                assert held == whole or (stream.is_finished and held <= whole), f"{stream.id}: {held} of {whole}"
        assert self._allowance + self._owed + unread == self._limits.connection_bytes
        assert all(number in streams for number in self._owing)
