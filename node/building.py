"""What can build images, and how a stream becomes what the engine takes."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Protocol

import trio

from orca.model.view import ImageBuild

if TYPE_CHECKING:
    from node.runtime.docker import DockerRuntime


class ImageBuilder(Protocol):
    """A runtime that can build images."""

    def build(self, tar: AsyncIterator[bytes], request: ImageBuild) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Build `request` from `tar`; the iterator gives the engine's output by line."""
        ...


class SpooledBuilder(ImageBuilder):
    """Builds images from a stream: the engine's client wants a file."""

    def __init__(self, docker: "DockerRuntime") -> None:
        self._docker = docker

    def build(self, tar: AsyncIterator[bytes], request: ImageBuild) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Build `request` from `tar`; see `DockerRuntime.build`."""
        return self._build(tar, request)

    @asynccontextmanager
    async def _build(self, tar: AsyncIterator[bytes], request: ImageBuild) -> AsyncIterator[AsyncIterator[str]]:
        with TemporaryFile(prefix="orca-build-") as spool:
            async for chunk in tar:
                await trio.to_thread.run_sync(spool.write, chunk)
            spool.seek(0)
            async with self._docker.build(spool, request) as lines:
                yield lines
