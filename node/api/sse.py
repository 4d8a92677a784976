"""Streams of the API: server-sent events (HTML Standard §9.2) and lines of JSON."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Final, TypeVar

import msgspec
import trio

from orca.errors import ErrorEnvelope, OrcaError, to_body
from orca.http import StreamResponse

KEEP_ALIVE_S: Final = 15.0
SSE: Final = "text/event-stream"
KEEP_ALIVE: Final = b": keep-alive\n\n"
T = TypeVar("T")


def sse_message(event: str, body: msgspec.Struct, event_id: int | None = None) -> bytes:
    """One event; JSON has no raw line ends, so its data is one line."""
    head = b"" if event_id is None else b"id: %d\n" % event_id
    return head + b"event: " + event.encode("ascii") + b"\ndata: " + msgspec.json.encode(body) + b"\n\n"


def error_line(error: OrcaError) -> bytes:
    """What an error is in a stream whose head has gone out: its last line."""
    return msgspec.json.encode(ErrorEnvelope(error=to_body(error))) + b"\n"


async def wait_or_keep_alive(wait: Callable[[], Awaitable[T]], said_at: float) -> T | None:
    """What `wait` gives, or None when the client, which last heard something at `said_at`, should hear something.

    `said_at` is of trio's clock. It is not the beginning of this wait: what `wait` gives may
    be nothing for this client, again and again.
    """
    with trio.move_on_at(said_at + KEEP_ALIVE_S):
        return await wait()
    return None


def sse_response(make: Callable[[], AsyncGenerator[bytes, None]]) -> StreamResponse:
    """A stream of server-sent events; an error of the tree becomes its last event, `error`."""
    return sse_stream(_closing(lambda: _with_error_event(make)))


def sse_stream(content: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> StreamResponse:
    """The same, where something has to be held open beside it."""
    return StreamResponse(
        headers=(("content-type", SSE), ("cache-control", "no-store"), ("x-accel-buffering", "no")), content=content
    )


def lines_response(content: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> StreamResponse:
    """A stream of lines of JSON."""
    return StreamResponse(
        headers=(("content-type", "application/x-ndjson"), ("cache-control", "no-store")), content=content
    )


@contextlib.asynccontextmanager
async def _closing(make: Callable[[], AsyncGenerator[bytes, None]]) -> AsyncGenerator[AsyncIterator[bytes], None]:
    async with aclosing(make()) as pieces:
        yield pieces


async def _with_error_event(make: Callable[[], AsyncGenerator[bytes, None]]) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(make()) as pieces:
            async for piece in pieces:
                yield piece
    except OrcaError as error:
        yield sse_message("error", ErrorEnvelope(error=to_body(error)))
