"""Raft messages over the mesh."""

from collections.abc import Callable
from typing import Final

import structlog

from consensus.raft import Message, decode_message, encode_message
from node.mesh.driver import Mesh
from node.mesh.frames import FrameStream
from orca.errors import PeerProtocolError
from orca.model.ids import NodeId

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

    async def serve(self, peer: NodeId, frames: FrameStream) -> None:
        """One connection of `peer`: its messages in order, until it ends."""
        while batch := await frames.receive_some():
            for payload in batch:
                try:
                    message = decode_message(payload)
                except PeerProtocolError as error:
                    _log.warning("a message of the group cannot be read", peer=peer, reason=error.message)
                    raise
                self.receive(peer, message)


__all__: Final = ["RaftTransport"]
