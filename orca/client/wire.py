"""One call of the API: what is tried again, and how what goes wrong is told."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import trio

from orca.client.answers import decode_error, lost, reason_of, unreachable
from orca.client.discover import NodeAddress
from orca.errors import NodeUnreachableError, NotLeaderError, ProposalLostError
from orca.http import Connect, Headers, HttpClient, HttpReply, HttpStream

TRIES: Final = 2
RETRY_PAUSE_S: Final = 0.1
ELECTION_PATIENCE_S: Final = 5.0
"""How long a call is repeated while nobody leads: twice what an election takes."""
CLOSED: Final = "it closed the connection before it answered"


class Caller:
    """Calls to one node."""

    def __init__(self, address: NodeAddress, timeout_s: float, *, connect: Connect, headers: Headers = ()) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._headers = headers
        self._http = HttpClient(connect, host=address.authority)

    async def aclose(self) -> None:
        """Close kept connections."""
        await self._http.aclose()

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
        give_up_at = trio.current_time() + ELECTION_PATIENCE_S
        tries = 0
        while True:
            tries += 1
            try:
                return await self._try(method, target, headers, body, is_write, timeout_s or self._timeout_s)
            except NodeUnreachableError:
                if tries >= TRIES:
                    raise
            except (NotLeaderError, ProposalLostError) as error:
                # While the group elects a leader; a change carries an id, and is made once.
                has_broken = isinstance(error.__cause__, trio.BrokenResourceError | trio.TooSlowError)
                if trio.current_time() >= give_up_at or (has_broken and tries >= TRIES):
                    raise
            await trio.sleep(RETRY_PAUSE_S)

    async def _try(
        self, method: str, target: str, headers: Headers, body: bytes, is_write: bool, timeout_s: float
    ) -> HttpReply:
        try:
            reply = await self._http.request(
                method, target, headers=(*self._headers, *headers), body=body, timeout_s=timeout_s
            )
        except trio.BrokenResourceError as error:
            raise lost(self._address, CLOSED, is_write=is_write) from error
        except trio.TooSlowError as error:
            raise lost(self._address, f"no answer within {timeout_s:g} s", is_write=is_write) from error
        except OSError as error:
            raise unreachable(self._address, reason_of(error)) from error
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
                    self._http.stream(
                        method, target, headers=(*self._headers, *headers), body=body, timeout_s=self._timeout_s
                    )
                )
            except trio.BrokenResourceError as error:
                raise unreachable(self._address, CLOSED) from error
            except trio.TooSlowError as error:
                raise unreachable(self._address, f"no answer within {self._timeout_s:g} s") from error
            except OSError as error:
                raise unreachable(self._address, reason_of(error)) from error
            yield stream
