"""Streams of a node's answers as typed items, with what may go wrong told in our words."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Final, TypeVar

import trio

from orca.client.answers import BuildLine, LogLine, decode_error, decoded, unreachable
from orca.client.discover import NodeAddress
from orca.client.stream import LineSplitter, SseMessage, SseParser
from orca.errors import OrcaError, PeerProtocolError, from_body
from orca.http import HttpStream
from orca.model.event import NodeEvent
from orca.model.view import LogRecord, NodeSilence

T = TypeVar("T")

SSE_SILENCE_S: Final = 45.0
"""Three times the node's keep-alive: a stream that says nothing for so long is dead."""


class Guarded(AsyncIterator[T]):
    """`items`, with what the connection may raise told in our words."""

    def __init__(self, items: AsyncIterator[T], address: NodeAddress) -> None:
        self._items = items
        self._address = address

    async def __anext__(self) -> T:
        try:
            return await anext(self._items)
        except trio.BrokenResourceError as error:
            raise unreachable(self._address, "it closed the connection in the middle of a stream") from error
        except trio.TooSlowError as error:
            raise unreachable(self._address, f"it has said nothing for {SSE_SILENCE_S:g} s") from error


async def _messages(stream: HttpStream) -> AsyncGenerator[SseMessage, None]:
    parser = SseParser()
    async for piece in stream.chunks(idle_timeout_s=SSE_SILENCE_S):
        for message in parser.feed(piece):
            if message.event == "error":
                raise decode_error(200, message.data, "the stream")
            yield message


async def sse_items(stream: HttpStream, kind: type[T]) -> AsyncGenerator[T, None]:
    """Every message of `stream`, as a `kind`."""
    async with aclosing(_messages(stream)) as messages:
        async for message in messages:
            yield decoded(message.data, kind, "the stream")


async def events(stream: HttpStream, told: Callable[[NodeSilence], None]) -> AsyncGenerator[NodeEvent, None]:
    """The events of `stream`; `told` gets the nodes that fall silent."""
    async with aclosing(_messages(stream)) as messages:
        async for message in messages:
            if message.event == "silent":
                told(decoded(message.data, NodeSilence, "the stream"))
            else:
                yield decoded(message.data, NodeEvent, "the stream")


async def _lines(stream: HttpStream) -> AsyncGenerator[bytes, None]:
    splitter = LineSplitter()
    async for piece in stream.chunks():
        for line in splitter.feed(piece):
            if line:
                yield line
    if splitter.rest:
        raise PeerProtocolError("the node's stream ended in the middle of a line")


async def log_records(stream: HttpStream) -> AsyncGenerator[LogRecord, None]:
    """The lines of an answer of `GET /v1/logs`."""
    async with aclosing(_lines(stream)) as lines:
        async for line in lines:
            if line.startswith(b'{"error":'):
                raise from_body(decoded(line, LogLine, "the stream").error)
            yield decoded(line, LogRecord, "the stream")


async def build_lines(stream: HttpStream) -> AsyncGenerator[str, None]:
    """What a build says; raises what it failed by."""
    async with aclosing(_lines(stream)) as lines:
        async for line in lines:
            message = decoded(line, BuildLine, "the stream")
            if message.error is not None:
                raise from_body(message.error)
            if message.image is not None:
                return
            yield message.line
    raise OrcaError("the node's build ended without saying how")
