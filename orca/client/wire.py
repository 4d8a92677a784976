"""One call of the API: what is tried again, and how what goes wrong is told."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, TypeVar

import msgspec
import trio

from orca.client.discover import NodeAddress
from orca.errors import (
    ErrorBody,
    NodeUnreachableError,
    NotFoundError,
    NotLeaderError,
    OrcaError,
    PeerProtocolError,
    ProposalLostError,
    from_body,
)
from orca.http import Headers, HttpClient, HttpReply, HttpStream
from orca.http.messages import ErrorEnvelope

T = TypeVar("T")

TRIES: Final = 2
RETRY_PAUSE_S: Final = 0.1


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of a log stream that failed."""

    error: ErrorBody


class BuildLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a build: of output, or at its end the image or the error."""

    line: str = ""
    image: str | None = None
    error: ErrorBody | None = None


class Caller:
    """Calls to one node."""

    def __init__(self, address: NodeAddress, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._http = HttpClient(address.connector(), host=address.authority)

    async def aclose(self) -> None:
        """Close kept connections."""
        await self._http.aclose()

    def unreachable(self, why: str) -> NodeUnreachableError:
        """The error that names this node and the way out."""
        return NodeUnreachableError(
            f"no node answers at {self._address}: {why}",
            hint="start one with `orca up`, or name another with --node or ORCA_NODE",
        )

    async def call(
        self,
        method: str,
        target: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        is_write: bool = False,
        timeout_s: float | None = None,
    ) -> HttpReply:
        """The answer to one repeatable request; raises the node's error for a status of 400 or more.

        A write must carry a `request_id`. When it breaks twice its outcome is unknown and
        `ProposalLostError` says so.
        """
        for attempt in range(1, TRIES + 1):
            try:
                return await self._try(method, target, headers, body, is_write, timeout_s or self._timeout_s)
            except (NodeUnreachableError, NotLeaderError, ProposalLostError):
                if attempt == TRIES:
                    raise
            await trio.sleep(RETRY_PAUSE_S)
        raise AssertionError("the loop returns or raises")

    async def _try(
        self, method: str, target: str, headers: Headers, body: bytes, is_write: bool, timeout_s: float
    ) -> HttpReply:
        try:
            reply = await self._http.request(method, target, headers=headers, body=body, timeout_s=timeout_s)
        except trio.BrokenResourceError as error:
            raise self._lost("it closed the connection before it answered", is_write) from error
        except trio.TooSlowError as error:
            raise self._lost(f"no answer within {timeout_s:g} s", is_write) from error
        except OSError as error:
            raise self.unreachable(_reason(error)) from error
        if reply.status >= 400:
            raise decode_error(reply.status, reply.body, f"{method} {target}")
        return reply

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, target: str, *, headers: Headers, body: bytes | AsyncIterator[bytes]
    ) -> AsyncGenerator[HttpStream, None]:
        """The answer as a stream, whatever its status; tried once."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                stream = await stack.enter_async_context(
                    self._http.stream(method, target, headers=headers, body=body, timeout_s=self._timeout_s)
                )
            except trio.BrokenResourceError as error:
                raise self.unreachable("it closed the connection before it answered") from error
            except trio.TooSlowError as error:
                raise self.unreachable(f"no answer within {self._timeout_s:g} s") from error
            except OSError as error:
                raise self.unreachable(_reason(error)) from error
            yield stream

    def _lost(self, why: str, is_write: bool) -> OrcaError:
        if not is_write:
            return self.unreachable(why)
        return ProposalLostError(
            f"it is unknown whether the change was made: the node at {self._address} took it, then {why}",
            hint="look at `orca status`, then try again if needed",
        )


def decoded(body: bytes, kind: type[T], what: str) -> T:
    """`body` as `kind`; raises `PeerProtocolError` when it is something else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PeerProtocolError(
            f"the answer to {what} is no {kind.__name__}: {error}",
            hint="the node may be of another version than this client",
        ) from error


def decode_error(status: int, body: bytes, what: str) -> OrcaError:
    """The error that an answer with `status` tells of."""
    if not body and status == NotFoundError.http_status:
        return NotFoundError(f"{what}: there is no such thing")
    try:
        return from_body(msgspec.json.decode(body, type=ErrorEnvelope).error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return PeerProtocolError(
            f"{what} was answered with status {status} and no error of Orca's", hint="is this address an Orca node's?"
        )


def _reason(error: OSError) -> str:
    """The most telling words of `error`, which may hold those of several addresses."""
    inner = error.__cause__
    if isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    found = inner if isinstance(inner, OSError) else error
    return (found.strerror or str(found)).lower()
