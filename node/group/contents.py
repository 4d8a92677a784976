"""Contents (modules, files) by their digest, from whichever node has them."""

import random
import re
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

import structlog
import trio

from node.mesh.driver import Mesh
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from node.store.blobs import BlobStore
from orca.errors import NodeUnreachableError, NotAvailableError, NotFoundError, OrcaError, PeerProtocolError
from orca.model.ids import BlobDigest, NodeId

_log = structlog.get_logger("orca.group")
PIECE_BYTES: Final = 256 * 1024
PIECE_TIMEOUT_S: Final = 15.0
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_FOUND: Final = b"found"
_MISSING: Final = b"missing"


class ContentSharing:
    """Gives contents to peers and fetches what this node lacks. `others`: the living nodes, without this one."""

    def __init__(self, blobs: BlobStore, mesh: Mesh, *, others: Callable[[], Iterable[NodeId]]) -> None:
        self._blobs = blobs
        self._mesh = mesh
        self._others = others
        self._fetching: dict[BlobDigest, trio.Event] = {}

    async def serve(self, peer: NodeId, frames: FrameStream) -> None:
        """Answer one request: the digest comes, its content goes back in pieces, an empty one at the end."""
        text = (await frames.receive()).decode("ascii", "replace")
        if _DIGEST.fullmatch(text) is None:
            raise PeerProtocolError(f"{peer} asks for {text[:80]!r}, which is no digest")
        digest = BlobDigest(text)
        if not self._blobs.has(digest):
            await frames.send((_MISSING,))
            return
        await frames.send((_FOUND,))
        async with await trio.open_file(self._blobs.path(digest), "rb") as file:
            while piece := await file.read(PIECE_BYTES):
                await self._send(frames, peer, piece)
        await self._send(frames, peer, b"")

    async def _send(self, frames: FrameStream, peer: NodeId, piece: bytes) -> None:
        with trio.move_on_after(PIECE_TIMEOUT_S) as scope:
            await frames.send((piece,))
        if scope.cancelled_caught:
            raise NodeUnreachableError(f"{peer} takes nothing any more")

    async def ensure(self, digests: Iterable[BlobDigest]) -> None:
        """Have all of `digests` on this node. Raises NotAvailableError naming the first that nobody gives."""
        for digest in digests:
            while not self._blobs.has(digest):
                running = self._fetching.get(digest)
                if running is not None:
                    await running.wait()
                    continue
                done = self._fetching[digest] = trio.Event()
                try:
                    await self._fetch(digest)
                finally:
                    del self._fetching[digest]
                    done.set()

    async def _fetch(self, digest: BlobDigest) -> None:
        others = sorted(self._others(), key=lambda _node: random.random())
        reasons = []
        for node in others:
            try:
                await self._fetch_from(node, digest)
            except OrcaError as error:
                reasons.append(f"{node}: {error.message}")
            else:
                _log.info("a content was fetched", digest=digest, source=node)
                return
        words = "; ".join(reasons) or "no other node is known"
        raise NotAvailableError(f"the content {digest} is on none of the nodes that answer ({words})")

    async def _fetch_from(self, node: NodeId, digest: BlobDigest) -> None:
        async with self._mesh.connect(node, Purpose.CONTENT) as frames:
            await frames.send((digest.encode(),))
            if await self._piece(frames, node) != _FOUND:
                raise NotFoundError("it does not have it")
            await self._blobs.put(self._pieces(frames, node), digest)

    async def _pieces(self, frames: FrameStream, node: NodeId) -> AsyncIterator[bytes]:
        while piece := await self._piece(frames, node):
            yield piece

    async def _piece(self, frames: FrameStream, node: NodeId) -> bytes:
        with trio.move_on_after(PIECE_TIMEOUT_S):
            return await frames.receive()
        raise NodeUnreachableError(f"{node} stopped in the middle")
