"""Images that no registry has, from a node that has them: what was built on one node runs on any.

A node that is to run a copy and cannot have its image asks the others, and takes the first that is for its own
platform. It is given only what a copy that it is to run uses. An image in a registry is pulled from there first.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec
import structlog
import trio

from consensus.state.cluster import ClusterState
from node.mesh.driver import Handler, Mesh
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from node.runtime.base import Progress
from orca.errors import ForbiddenError, NodeUnreachableError, NotFoundError, OrcaError, PeerProtocolError
from orca.model.allocation import DesiredStatus, PrepareProgress
from orca.model.ids import NodeId
from orca.model.spec import ContainerImage

_log = structlog.get_logger("orca.group")
PIECE_TIMEOUT_S: Final = 150.0
"""The engine may be silent for two minutes."""
FRAME_BYTES: Final = 256 * 1024
GIVEN_AT_ONCE: Final = 2
NAME_BYTES_MAX: Final = 1024


class MovableImages(Protocol):
    """The engine's images; `node.runtime.docker.moving` has it."""

    async def platform(self) -> str:
        """What runs here, as `linux/amd64`."""
        ...

    async def find(self, image: str) -> str | None:
        """The platform of `image`; None when it is not here."""
        ...

    def save(self, image: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Its tar in pieces."""
        ...

    async def load(self, image: str, pieces: AsyncIterator[bytes]) -> None:
        """Take the tar of `image`."""
        ...


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame of an answer; what follows is the tar, and an empty frame. `platform` empty: it is not here."""

    platform: str = ""


_found = msgspec.msgpack.Decoder(_Found)


class ImageSharing:
    """Both ends. `others`: the living nodes, without this one."""

    def __init__(
        self,
        images: MovableImages,
        mesh: Mesh,
        state: Callable[[], ClusterState],
        others: Callable[[], Iterable[NodeId]],
    ) -> None:
        self._images = images
        self._mesh = mesh
        self._state = state
        self._others = others
        self._limiter = trio.CapacityLimiter(GIVEN_AT_ONCE)

    async def serve(self, peer: NodeId, frames: FrameStream) -> None:
        """Answer one request: the name of an image comes, its platform and its tar go back."""
        image = (await frames.receive())[:NAME_BYTES_MAX].decode("utf-8", "replace")
        check_right(self._state(), peer, image)
        platform = await self._images.find(image)
        await frames.send((msgspec.msgpack.encode(_Found(platform=platform or "")),))
        if platform is None or await frames.receive_some() == []:
            return  # the peer has no use for it
        async with self._limiter, self._images.save(image) as pieces:
            async for piece in pieces:
                await self._send(frames, peer, piece)
        await self._send(frames, peer, b"")
        _log.info("an image was given to a peer", image=image, peer=peer)

    @staticmethod
    async def _send(frames: FrameStream, peer: NodeId, piece: bytes) -> None:
        with trio.move_on_after(PIECE_TIMEOUT_S):
            await frames.send((piece,))
            return
        raise NodeUnreachableError(f"{peer} takes nothing any more")

    async def borrow(self, image: str, progress: Progress) -> str | None:
        """Have `image` from another node: None when it is here now, else why not (empty: there is no other node)."""
        reasons = []
        for node in sorted(self._others(), key=lambda _node: random.random()):
            try:
                await self._fetch(node, image, progress)
            except OrcaError as error:
                reasons.append(f"{node}: {error.message}")
            else:
                _log.info("an image came from a peer", image=image, peer=node)
                return None
        return "; ".join(reasons)

    async def _fetch(self, node: NodeId, image: str, progress: Progress) -> None:
        own = await self._images.platform()
        async with self._mesh.connect(node, Purpose.IMAGE) as frames:
            await frames.send((image.encode(),))
            try:
                platform = _found.decode(await self._piece(frames, node)).platform
            except msgspec.MsgspecError as error:
                raise PeerProtocolError(f"{node} answers in words that are none") from error
            if platform != own:
                raise NotFoundError(f"its image is for {platform}, not {own}" if platform else "it does not have it")
            await frames.send((b"go",))
            await self._images.load(image, self._pieces(frames, node, progress))

    async def _pieces(self, frames: FrameStream, node: NodeId, progress: Progress) -> AsyncIterator[bytes]:
        size = 0
        while piece := await self._piece(frames, node):
            size += len(piece)
            progress(PrepareProgress(step=f"copying from {node}", current=size))
            yield piece

    @staticmethod
    async def _piece(frames: FrameStream, node: NodeId) -> bytes:
        with trio.move_on_after(PIECE_TIMEOUT_S):
            return await frames.receive()
        raise NodeUnreachableError(f"{node} stopped in the middle")


def check_right(state: ClusterState, peer: NodeId, image: str) -> None:
    """Raise ForbiddenError unless `peer` is to run a copy of that image. Pure."""
    for allocation in state.allocations.values():
        if allocation.node == peer and allocation.desired is DesiredStatus.RUNNING:
            source = state.spec_of(allocation).source
            if isinstance(source, ContainerImage) and image in (source.image, f"{source.image}:latest"):
                return
    raise ForbiddenError(f"{peer} is not to run anything of image {image[:200]!r}, so it does not get it")


class Engine(Protocol):
    """A runtime whose images can be moved."""

    @property
    def movable_images(self) -> MovableImages:
        """What it has."""
        ...

    def borrow_images(self, borrow: Callable[[str, Progress], Awaitable[str | None]]) -> None:
        """From now on ask `borrow` for images that cannot be pulled."""
        ...


def share_images(
    engine: Engine | None, mesh: Mesh, state: Callable[[], ClusterState], others: Callable[[], Iterable[NodeId]]
) -> dict[Purpose, Handler]:
    """Let `engine` take images from other nodes, and give those what it has; nothing without an engine."""
    if engine is None:
        return {}
    sharing = ImageSharing(engine.movable_images, mesh, state, others)
    engine.borrow_images(sharing.borrow)
    return {Purpose.IMAGE: sharing.serve}
