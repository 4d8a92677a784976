"""Frames on a trio stream."""

from collections.abc import Iterable
from typing import Final

import trio

from orca.errors import NodeUnreachableError, OrcaError, PeerProtocolError
from orca.wire import FRAME_BYTES_MAX, FrameReader, encode_frame

_RECEIVE_BYTES: Final = 256 * 1024


class FrameStream:
    """Sends and receives whole frames; one task may send while another receives."""

    def __init__(self, stream: trio.abc.Stream, *, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._stream = stream
        self._reader = FrameReader(bytes_max)
        self._ready: list[bytes] = []

    async def send(self, payloads: Iterable[bytes]) -> None:
        """Send each as a frame, all in one go.

        Raises NodeUnreachableError when the connection is gone, or what the peer refused with.
        """
        try:
            await self._stream.send_all(b"".join(map(encode_frame, payloads)))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _why(error, "the peer closed the connection") from error

    async def receive_some(self) -> list[bytes]:
        """At least one frame, and all that came with it; [] when the peer has ended its stream.

        Raises PeerProtocolError for a frame that is too long or cut off, NodeUnreachableError
        when the connection broke, and what the peer refused with.
        """
        if self._ready:
            ready, self._ready = self._ready, []
            return ready
        while True:
            try:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise _why(error, "the connection broke") from error
            if not data:
                if self._reader.held_bytes:
                    raise PeerProtocolError("the peer ended its stream in the middle of a frame")
                return []
            if frames := self._reader.feed(data):
                return frames

    async def receive(self) -> bytes:
        """The next frame; raises NodeUnreachableError when there is none any more."""
        frames = await self.receive_some()
        if not frames:
            raise NodeUnreachableError("the peer ended the connection")
        self._ready = frames[1:]
        return frames[0]

    async def aclose(self) -> None:
        """Close without ceremony."""
        await trio.aclose_forcefully(self._stream)


def _why(error: Exception, otherwise: str) -> OrcaError:
    """What a stream of the mesh says of its end; other streams say nothing."""
    cause = error.__cause__
    return type(cause)(cause.message) if isinstance(cause, OrcaError) else NodeUnreachableError(otherwise)
