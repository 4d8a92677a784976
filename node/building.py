"""What can build images."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from orca.model.view import ImageBuild


class ImageBuilder(Protocol):
    """A runtime that can build images."""

    def build(self, tar: AsyncIterator[bytes], request: ImageBuild) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Build `request` from `tar`; the iterator gives the engine's output by line."""
        ...
