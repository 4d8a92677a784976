"""An image that no registry has comes from a node that has it: whole or not at all, and to who is to run it only."""

import os
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from consensus.state.cluster import ClusterState
from node.group.images import ImageSharing, check_right
from node.mesh.driver import Mesh, MeshAddress
from node.mesh.purpose import Purpose
from orca.errors import ForbiddenError, RuntimeFailedError
from orca.model.allocation import PrepareProgress
from orca.model.ids import NodeId
from tests.consensus.intent import make_spec
from tests.consensus.scheduler.fake_world import World
from tests.node.mesh.credentials import TrustedCluster

IMAGE = "web:1"
CONTENT = os.urandom(3 * 2**20 + 7)


class FakeImages:
    """An engine's images as bytes."""

    def __init__(self, *images: str, platform: str = "linux/amd64") -> None:
        self.kept = dict.fromkeys(images, CONTENT)
        self._platform = platform
        self.breaks_after: int | None = None

    async def platform(self) -> str:
        return self._platform

    async def find(self, image: str) -> str | None:
        return self._platform if image in self.kept else None

    @asynccontextmanager
    async def save(self, image: str) -> AsyncGenerator[AsyncIterator[bytes], None]:
        yield self._pieces(self.kept[image])

    async def _pieces(self, content: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(content), 65_536):
            if self.breaks_after is not None and start >= self.breaks_after:
                raise RuntimeFailedError("the engine broke off")
            yield content[start : start + 65_536]

    async def load(self, image: str, pieces: AsyncIterator[bytes]) -> None:
        self.kept[image] = b"".join([piece async for piece in pieces])


def placed() -> tuple[ClusterState, NodeId, NodeId]:
    """A state in which one of two nodes is to run the image: that one, and the other."""
    world = World()
    world.put(make_spec(image=IMAGE))
    world.think_all()
    (copy,) = world.copies()
    (other,) = (node.id for node in world.nodes if node.id != copy.node)
    return world.state, copy.node, other


@asynccontextmanager
async def sharing(cluster: TrustedCluster, here: FakeImages, there: FakeImages) -> AsyncIterator[ImageSharing]:
    """The end of the node that is to run the image."""
    state, own, other = placed()
    places: dict[NodeId, MeshAddress] = {}
    async with trio.open_nursery() as nursery:
        ends = {}
        for node, peer, images in ((own, other, here), (other, own, there)):
            mesh = Mesh(node, random.Random(1), address_of=places.get, credentials=cluster.credentials(node))
            ends[node] = ImageSharing(images, mesh, lambda: state, lambda peer=peer: [peer])  # type: ignore[misc]
            handlers = {Purpose.IMAGE: ends[node].serve}
            places[node] = await nursery.start(partial(mesh.run, handlers, "127.0.0.1", 0))
        with trio.fail_after(20):
            yield ends[own]
        nursery.cancel_scope.cancel()


async def test_an_image_comes_whole_from_a_node_that_has_it(cluster: TrustedCluster) -> None:
    here, there = FakeImages(), FakeImages(IMAGE)
    told: list[PrepareProgress] = []
    async with sharing(cluster, here, there) as end:
        assert await end.borrow(IMAGE, told.append) is None
    assert here.kept == {IMAGE: CONTENT}
    assert told[-1].current == len(CONTENT)
    assert "copying from" in told[-1].step


async def test_why_no_node_gave_it_is_told_and_nothing_is_kept(cluster: TrustedCluster) -> None:
    here, there = FakeImages(), FakeImages(IMAGE)
    async with sharing(cluster, here, there) as end:
        there.breaks_after = 2**20
        assert "the engine broke off" in str(await end.borrow(IMAGE, lambda _: None))
        there.kept.clear()
        assert "does not have it" in str(await end.borrow(IMAGE, lambda _: None))
        assert "is not to run anything of image 'db:1'" in str(await end.borrow("db:1", lambda _: None))
    assert not here.kept


async def test_an_image_for_another_kind_of_computer_is_not_taken(cluster: TrustedCluster) -> None:
    here, there = FakeImages(platform="linux/arm64"), FakeImages(IMAGE)
    async with sharing(cluster, here, there) as end:
        assert "its image is for linux/amd64, not linux/arm64" in str(await end.borrow(IMAGE, lambda _: None))
    assert not here.kept


def test_only_who_is_to_run_a_copy_of_it_gets_an_image() -> None:
    state, own, other = placed()
    check_right(state, own, IMAGE)
    for node, image in ((other, IMAGE), (own, "db:1"), (own, "web")):
        with pytest.raises(ForbiddenError):
            check_right(state, node, image)
