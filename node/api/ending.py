"""Streams that end when the right to them ends."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec
import trio

from node.api.caller import Standing
from node.api.sse import SSE, error_line, sse_message
from orca.errors import ErrorEnvelope, OrcaError, to_body
from orca.http import StreamResponse


def while_entitled(reply: StreamResponse, standing: Standing) -> StreamResponse:
    """`reply`, ended by its usual last words when `standing` returns."""
    is_sse = ("content-type", SSE) in reply.headers
    tell = _error_event if is_sse else error_line
    return msgspec.structs.replace(reply, content=_watched(reply.content, standing, tell))


def _error_event(error: OrcaError) -> bytes:
    return sse_message("error", ErrorEnvelope(error=to_body(error)))


@asynccontextmanager
async def _watched(
    content: AbstractAsyncContextManager[AsyncIterator[bytes]], standing: Standing, tell: Callable[[OrcaError], bytes]
) -> AsyncGenerator[AsyncIterator[bytes], None]:
    async with content as pieces, trio.open_nursery() as nursery:
        watched = _Watched(pieces, tell)
        nursery.start_soon(watched.watch, standing)
        yield watched
        nursery.cancel_scope.cancel()


class _Watched(AsyncIterator[bytes]):
    """`pieces` until `watch` has an error; then that, once."""

    def __init__(self, pieces: AsyncIterator[bytes], tell: Callable[[OrcaError], bytes]) -> None:
        self._pieces = pieces
        self._tell = tell
        self._scope = trio.CancelScope()
        self._error: OrcaError | None = None
        self._is_over = False

    async def watch(self, standing: Standing) -> None:
        self._error = await standing()
        self._scope.cancel()

    async def __anext__(self) -> bytes:
        if self._is_over:
            raise StopAsyncIteration
        if self._error is None:
            with trio.CancelScope() as self._scope:
                return await anext(self._pieces)
        assert self._error is not None, "only an error of `watch` cancels"
        self._is_over = True
        return self._tell(self._error)
