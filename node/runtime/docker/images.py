"""Images: fetched once however many copies wait for them, and built from a directory's tar.

What cannot be pulled, or is not to be, may still be on another node: `borrow` asks there.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import trio

from node.runtime.base import Progress
from node.runtime.docker.calls import Calls
from node.runtime.docker.connection import Engine, deadline
from node.runtime.docker.frames import JsonLines
from node.runtime.docker.logins import Login, all_logins, find_login
from node.runtime.docker.reading import PullState
from node.runtime.docker.refusals import EngineRefusedError, as_error, image_error
from node.runtime.docker.request import normalised_image, split_image
from orca.errors import ImageNotFoundError, OrcaError, RuntimeFailedError
from orca.model.allocation import PrepareProgress
from orca.model.spec import PullPolicy
from orca.model.view import ImageBuild

PULL_SILENCE_MAX_S: Final = 300.0
"""Engines report progress several times a second; only unpacking one huge layer is silent for long."""

BUILD_SILENCE_MAX_S: Final = 3600.0
"""A build step may compile for a long time without a word."""

UPLOAD_TIMEOUT_S: Final = 3600.0
UPLOAD_PIECE_BYTES: Final = 256 * 1024

Borrow = Callable[[str, Progress], Awaitable[str | None]]
"""Has an image from another node: None when it is here now, else why not (empty: there is no other node)."""


@dataclass(eq=False)
class _Pull:
    """One fetch that is under way, and who waits for it."""

    policy: PullPolicy

    listeners: list[Progress] = field(default_factory=list)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    error: OrcaError | None = None
    login: Login | None = None


class Images:
    """The images of the engine."""

    def __init__(self, engine: Engine, calls: Calls) -> None:
        self._engine = engine
        self._calls = calls
        self.borrow: Borrow | None = None
        self._pulls: dict[tuple[str, PullPolicy], _Pull] = {}

    async def prepare(self, nursery: trio.Nursery, image: str, policy: PullPolicy, progress: Progress) -> None:
        """Have `image` on this node, as `policy` says; raises ImageNotFoundError."""
        image = normalised_image(image)
        if policy is not PullPolicy.ALWAYS:
            try:
                await self._calls.query("inspect_image", partial(_inspect, image))
                return
            except EngineRefusedError as refusal:
                if refusal.status != 404:
                    raise as_error(refusal, f"look for image {image}") from refusal
        await self._share(nursery, image, policy, progress)

    async def _share(self, nursery: trio.Nursery, image: str, policy: PullPolicy, progress: Progress) -> None:
        key = (image, policy)
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = _Pull(policy)
            nursery.start_soon(self._pull, image, pull)
        pull.listeners.append(progress)
        try:
            async with self._calls.interruptible():
                await pull.done.wait()
        finally:
            pull.listeners.remove(progress)
            if not pull.listeners and not pull.done.is_set():
                pull.scope.cancel()
                if self._pulls.get(key) is pull:
                    del self._pulls[key]
        if pull.error is not None:
            # One error may be raised to several waiters, and a raised exception keeps its traceback.
            raise type(pull.error)(pull.error.message, hint=pull.error.hint) from pull.error

    async def _pull(self, image: str, pull: _Pull) -> None:
        try:
            with pull.scope:
                try:
                    if pull.policy is PullPolicy.NEVER:
                        raise _never_pulled(image)
                    await self._fetch(image, pull)
                except EngineRefusedError as refusal:
                    await self._borrow(image, pull, image_error(image, refusal.message, pull.login))
                except ImageNotFoundError as error:
                    await self._borrow(image, pull, error)
        except OrcaError as error:
            pull.error = error
        finally:
            pull.done.set()
            if self._pulls.get((image, pull.policy)) is pull:
                del self._pulls[image, pull.policy]

    async def _borrow(self, image: str, pull: _Pull, error: ImageNotFoundError) -> None:
        """Have it from another node; raises `error`, with what the others said, when none gives it."""
        if self.borrow is None or pull.policy is PullPolicy.ALWAYS:
            raise error

        def progress(shown: PrepareProgress) -> None:
            for listener in tuple(pull.listeners):
                listener(shown)

        reasons = await self.borrow(image, progress)
        if reasons is not None:
            others = f"; no other node gave it ({reasons})" if reasons else ""
            raise ImageNotFoundError(error.message + others, hint=error.hint) from error

    async def _fetch(self, image: str, pull: _Pull) -> None:
        repository, tag = split_image(image)
        login = pull.login = await self._calls.query("registry_auth", partial(find_login, repository))
        target = self._engine.target("/images/create", {"fromImage": repository, "tag": tag})
        state, lines, shown = PullState(), JsonLines(), PrepareProgress(step="pulling")
        for listener in tuple(pull.listeners):
            listener(shown)
        headers = (("x-registry-auth", login.header),) if login.header else ()
        async with self._engine.exchange(
            "POST", target, headers=headers, body=b"", head_timeout_s=PULL_SILENCE_MAX_S
        ) as exchange:
            while True:
                with deadline(PULL_SILENCE_MAX_S, f"Docker reported no progress in pulling {image}"):
                    chunk = await exchange.receive()
                if chunk is None:
                    return
                for line in _decoded(lines, chunk):
                    if "error" in line:
                        raise EngineRefusedError(500, str(line["error"]))
                    summed = state.take(line)
                    if summed is not None and summed != shown:
                        shown = summed
                        for listener in tuple(pull.listeners):
                            listener(shown)

    @asynccontextmanager
    async def build(self, tar: BinaryIO | Path, request: ImageBuild) -> AsyncIterator[AsyncIterator[str]]:
        """Build an image; gives the lines that the engine prints.

        Reading them to their end waits for the image. Raises RuntimeFailedError, at
        the latest after the last line, with the words of the step that failed;
        leaving the context early ends the build.
        """
        query = {
            "t": normalised_image(request.tag),
            "dockerfile": request.dockerfile,
            "buildargs": msgspec.json.encode(request.args).decode(),
            "rm": "1",
            "forcerm": "1",
        }
        if request.target is not None:
            query["target"] = request.target
        self._calls.require_open()
        header = await self._calls.query("registry_auth", all_logins)
        headers = (("content-type", "application/x-tar"), *((("x-registry-config", header),) if header else ()))
        target = self._engine.target("/build", query)
        try:
            async with (
                aclosing(_pieces(tar)) as pieces,
                self._engine.upload(target, pieces, headers, timeout_s=UPLOAD_TIMEOUT_S) as exchange,
                aclosing(_build_lines(exchange.receive, request.tag)) as lines,
            ):
                yield lines
        except EngineRefusedError as refusal:
            raise as_error(refusal, f"build image {request.tag}") from refusal


def _never_pulled(image: str) -> ImageNotFoundError:
    return ImageNotFoundError(
        f"image {image} is not on this node, and the spec says never to pull it",
        hint=f"Build or load it on a node (`docker load`, `docker build -t {image} .`), or push it to a registry.",
    )


async def _build_lines(receive: Any, tag: str) -> AsyncGenerator[str, None]:
    reader, rest = JsonLines(), ""
    while True:
        with deadline(BUILD_SILENCE_MAX_S, f"Docker printed nothing while building {tag}"):
            chunk = await receive()
        if chunk is None:
            break
        for line in _decoded(reader, chunk):
            if "error" in line:
                if rest.strip():
                    yield rest
                raise RuntimeFailedError(f"Docker could not build image {tag}: {str(line['error']).strip()}")
            *whole, rest = (rest + _text(line)).split("\n")
            for text in whole:
                if text.strip():
                    yield text.rstrip("\r")
    if rest.strip():
        yield rest


def _text(line: dict[str, Any]) -> str:
    if "stream" in line:
        return str(line["stream"])
    # Progress of the pull of a base image comes many times a second; only its words are for people.
    if "status" in line and not line.get("progressDetail"):
        layer = f"{line['id']}: " if line.get("id") else ""
        return f"{layer}{line['status']}\n"
    return ""


def _decoded(reader: JsonLines, chunk: bytes) -> list[dict[str, Any]]:
    try:
        return reader.feed(chunk)
    except ValueError as error:
        raise RuntimeFailedError(f"Docker answered something that is no JSON: {error}") from error


async def _pieces(tar: BinaryIO | Path) -> AsyncGenerator[bytes, None]:
    file = await trio.to_thread.run_sync(tar.open, "rb") if isinstance(tar, Path) else tar
    try:
        while piece := await trio.to_thread.run_sync(file.read, UPLOAD_PIECE_BYTES):
            yield piece
    finally:
        if isinstance(tar, Path):
            file.close()


def _inspect(image: str, client: Any) -> None:
    client.inspect_image(image)
