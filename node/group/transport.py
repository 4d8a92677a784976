"""Raft messages over the mesh."""

from collections.abc import Callable
from typing import Final

import structlog
import trio

from consensus.raft import Message, decode_message, encode_message
from node.mesh.driver import Mesh
from node.mesh.streams import MeshStream
from orca.errors import NodeUnreachableError, PeerProtocolError
from orca.model.ids import NodeId
from orca.wire import FrameReader

_log = structlog.get_logger("orca.mesh")

Receive = Callable[[NodeId, Message], None]


class RaftTransport:
    """Sends for a replica, and gives what comes to `receive`, which is set before anything runs."""

    receive: Receive

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._encoded: tuple[Message, bytes] | None = None

    def send(self, to: NodeId, message: Message) -> None:
        """Put `message` on its way; may lose it."""
        kept = self._encoded
        if kept is None or kept[0] is not message:  # the same append goes to several peers
            kept = self._encoded = (message, encode_message(message))
        self._mesh.send(to, kept[1])

    def flush(self) -> None:
        """Let what was sent leave now."""
        self._mesh.flush()

    async def serve(self, peer: NodeId, stream: MeshStream, _subject: bytes) -> None:
        """One connection of `peer`: its messages in order, until it ends."""
        reader = FrameReader()

        def take(data: bytes) -> None:
            try:
                for payload in reader.feed(data):
                    self.receive(peer, decode_message(payload))
            except PeerProtocolError as error:
                _log.warning("a message of the group cannot be read", peer=peer, reason=error.message)
                raise

        try:
            await stream.pour(take)
        except trio.BrokenResourceError as error:
            raise NodeUnreachableError("the connection broke") from error
        if reader.held_bytes:
            raise PeerProtocolError(f"{peer} ended its stream in the middle of a frame")


__all__: Final = ["RaftTransport"]
