"""Whole images out of the engine and into it, as tars: how one comes from another node."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from node.runtime.docker.calls import Calls
from node.runtime.docker.connection import Engine, deadline
from node.runtime.docker.frames import JsonLines
from node.runtime.docker.refusals import EngineRefusedError, as_error
from node.runtime.docker.request import normalised_image
from orca.errors import RuntimeFailedError

SILENCE_MAX_S: Final = 120.0
"""Packing and unpacking one huge layer is silent for long."""
LOAD_TIMEOUT_S: Final = 3600.0


class MovableImages:
    """The images of the engine, for other nodes and from them."""

    def __init__(self, engine: Engine, calls: Calls) -> None:
        self._engine = engine
        self._calls = calls

    async def platform(self) -> str:
        """What the engine runs, as `linux/amd64`."""
        version = await self._calls.query("version", lambda client: client.version())
        return f"{version['Os']}/{version['Arch']}"

    async def find(self, image: str) -> str | None:
        """The platform of `image`; None when it is not here."""
        try:
            found: dict[str, str] = await self._calls.query("inspect_image", partial(_inspect, image))
        except EngineRefusedError as refusal:
            if refusal.status == 404:
                return None
            raise as_error(refusal, f"look for image {image}") from refusal
        return f"{found['Os']}/{found['Architecture']}"

    @asynccontextmanager
    async def save(self, image: str) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """The tar of `image` in pieces. Raises RuntimeFailedError, RuntimeUnavailableError."""
        self._calls.require_open()
        target = self._engine.target("/images/get", {"names": normalised_image(image)})
        try:
            async with self._engine.exchange("GET", target, head_timeout_s=SILENCE_MAX_S) as exchange:
                yield _received(exchange.receive, image)
        except EngineRefusedError as refusal:
            raise as_error(refusal, f"save image {image}") from refusal

    async def load(self, image: str, pieces: AsyncIterator[bytes]) -> None:
        """Take the tar of `image`. Raises RuntimeFailedError, RuntimeUnavailableError; then it is not here."""
        self._calls.require_open()
        target, reader = self._engine.target("/images/load", {"quiet": "1"}), JsonLines()
        headers = (("content-type", "application/x-tar"),)
        try:
            async with self._engine.upload(target, pieces, headers, timeout_s=LOAD_TIMEOUT_S) as exchange:
                async for chunk in _received(exchange.receive, image):
                    for line in reader.feed(chunk):
                        if "error" in line:
                            raise RuntimeFailedError(f"Docker could not load image {image}: {line['error']}")
        except EngineRefusedError as refusal:
            raise as_error(refusal, f"load image {image}") from refusal
        if await self.find(image) is None:
            raise RuntimeFailedError(f"Docker took the tar of image {image} and has no such image now")


def _inspect(image: str, client: Any) -> Any:
    return client.inspect_image(image)


async def _received(receive: Any, image: str) -> AsyncGenerator[bytes, None]:
    while True:
        with deadline(SILENCE_MAX_S, f"Docker said nothing about image {image}"):
            chunk = await receive()
        if chunk is None:
            return
        yield chunk
