"""HTTP exchanges with the engine on trio sockets, for whatever streams.

One connection an exchange: the engine is on this computer, so connecting is cheap, and
closing the connection is how a stream is ended.
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import h11
import msgspec
import trio

from node.runtime.docker.refusals import EngineRefusedError
from orca.errors import InvalidConfigError, RuntimeUnavailableError

DEFAULT_URL: Final = "unix:///var/run/docker.sock"
CONNECT_TIMEOUT_S: Final = 2.0
RECEIVE_BYTES: Final = 65536
ERROR_BYTES_MAX: Final = 65536
REPLY_BYTES_MAX: Final = 64 * 2**20
HEAD_BYTES_MAX: Final = 65536


class EngineAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the engine listens: the path of a unix socket, or host and port."""

    url: str
    path: str = ""
    host: str = ""
    port: int = 0


def engine_address(base_url: str | None) -> EngineAddress:
    """The address that `base_url`, else DOCKER_HOST, else the usual socket names.

    Raises InvalidConfigError for other kinds: containers are reached by their bridge
    address, so the engine has to be on this computer.
    """
    url = base_url or os.environ.get("DOCKER_HOST") or DEFAULT_URL
    parts = urlsplit(url)
    if parts.scheme in ("unix", "http+unix"):
        return EngineAddress(url=f"unix://{parts.netloc}{parts.path}", path=f"{parts.netloc}{parts.path}")
    if parts.scheme in ("tcp", "http") and parts.hostname and not os.environ.get("DOCKER_TLS_VERIFY"):
        return EngineAddress(url=url, host=parts.hostname, port=parts.port or 2375)
    raise InvalidConfigError(
        f"Docker address {url}: only unix:///path/to/docker.sock and tcp://host:port of this computer can be used"
    )


class Exchange:
    """One request that was answered with success; its body, or the bare stream after an upgrade."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, url: str) -> None:
        self._stream = stream
        self._url = url
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._is_upgraded = False
        self._rest = b""

    def lost(self, error: BaseException | str) -> RuntimeUnavailableError:
        """The error that says that the engine broke off."""
        return RuntimeUnavailableError(f"Docker at {self._url} broke the connection off: {error}")

    async def send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        """Send a part of the request."""
        wire = self._http.send(event)
        if wire:
            await self.send_raw(wire)

    async def send_raw(self, chunk: bytes) -> None:
        """Send bytes on the bare stream."""
        try:
            await self._stream.send_all(chunk)
        except (trio.BrokenResourceError, OSError) as error:
            raise self.lost(error) from error

    async def send_eof(self) -> None:
        """Say that nothing more is sent; receiving goes on."""
        try:
            await self._stream.send_eof()
        except (trio.BrokenResourceError, OSError) as error:
            raise self.lost(error) from error

    async def read_head(self) -> None:
        """Wait for the head of the answer; raises EngineRefusedError for a status of 400 and above."""
        event = await self._next_event()
        while isinstance(event, h11.InformationalResponse) and event.status_code != 101:
            event = await self._next_event()
        if isinstance(event, h11.InformationalResponse):
            self._is_upgraded = True
            self._rest = self._http.trailing_data[0]
            return
        if not isinstance(event, h11.Response):
            raise self.lost("it ended before an answer")
        if event.status_code >= 400:
            body = b""
            while (chunk := await self.receive()) is not None and len(body) < ERROR_BYTES_MAX:
                body += chunk
            raise EngineRefusedError(event.status_code, error_message(body))

    async def receive(self) -> bytes | None:
        """The next piece of the body or of the bare stream; None after the last one."""
        if self._is_upgraded:
            if self._rest:
                rest, self._rest = self._rest, b""
                return rest
            return await self._receive_raw() or None
        event = await self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def receive_all(self) -> bytes:
        """The whole body, of 64 MiB at most."""
        pieces: list[bytes] = []
        size = 0
        while (chunk := await self.receive()) is not None:
            pieces.append(chunk)
            size += len(chunk)
            if size > REPLY_BYTES_MAX:
                raise self.lost(f"its answer is larger than {REPLY_BYTES_MAX} bytes")
        return b"".join(pieces)

    async def _receive_raw(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except (trio.BrokenResourceError, OSError) as error:
            raise self.lost(error) from error

    async def _next_event(self) -> h11.Event:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise self.lost(error) from error
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._receive_raw())
            elif isinstance(event, h11.PAUSED):  # pragma: no cover - only before a 101, which ends the parsing
                return h11.ConnectionClosed()
            else:
                assert not isinstance(event, type), f"h11 gave {event}"
                return event


def error_message(body: bytes) -> str:
    """The engine's own words in the body of an error."""
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body.decode(errors="replace")
    return str(decoded.get("message", "")) if isinstance(decoded, dict) else str(decoded)


class Engine:
    """Opens exchanges with the engine at one address."""

    def __init__(self, address: EngineAddress) -> None:
        self.address = address
        self.api_version = ""

    async def _connect(self) -> trio.abc.HalfCloseableStream:
        address = self.address
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                if address.path:
                    return await trio.open_unix_socket(address.path)
                return await trio.open_tcp_stream(address.host, address.port)
        except (OSError, trio.TooSlowError) as error:
            reason = "it accepts no connections" if isinstance(error, trio.TooSlowError) else str(error)
            raise RuntimeUnavailableError(
                f"no Docker engine answers at {address.url}: {reason}",
                hint="Start Docker (`systemctl start docker`), or give the node its address.",
            ) from error

    def target(self, path: str, query: dict[str, str] | None = None) -> str:
        """The request target of `path` at the API version that was agreed on."""
        prefix = f"/v{self.api_version}" if self.api_version else ""
        return prefix + path + (f"?{urlencode(query)}" if query else "")

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        target: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes | None = None,
        head_timeout_s: float = 10.0,
    ) -> AsyncIterator[Exchange]:
        """A request with a whole body, and the exchange after the head of its answer.

        Raises EngineRefusedError when the engine answers with an error, and
        RuntimeUnavailableError when it does not answer within `head_timeout_s`.
        """
        async with await self._connect() as stream:
            exchange = Exchange(stream, self.address.url)
            size = () if body is None else (("content-length", str(len(body))),)
            with deadline(head_timeout_s, f"Docker at {self.address.url} did not answer {method} {target}"):
                await exchange.send(
                    h11.Request(method=method, target=target, headers=[("host", "docker"), *headers, *size])
                )
                if body:
                    await exchange.send(h11.Data(data=body))
                await exchange.send(h11.EndOfMessage())
                await exchange.read_head()
            yield exchange

    @asynccontextmanager
    async def upload(
        self, target: str, body: AsyncIterator[bytes], headers: tuple[tuple[str, str], ...], *, timeout_s: float
    ) -> AsyncIterator[Exchange]:
        """A POST whose body is streamed, and the exchange after the head of its answer."""
        async with await self._connect() as stream:
            exchange = Exchange(stream, self.address.url)
            sent = h11.Request(
                method="POST",
                target=target,
                headers=[("host", "docker"), ("transfer-encoding", "chunked"), *headers],
            )
            with deadline(timeout_s, f"Docker at {self.address.url} did not take the upload"):
                await exchange.send(sent)
                try:
                    async for chunk in body:
                        await exchange.send(h11.Data(data=chunk))
                    await exchange.send(h11.EndOfMessage())
                except RuntimeUnavailableError:
                    pass  # It refused before it had read everything; its answer says why, and is read now.
                await exchange.read_head()
            yield exchange

    async def get_json(self, target: str, *, timeout_s: float) -> Any:
        """The decoded answer to a GET."""
        with deadline(timeout_s, f"Docker at {self.address.url} did not answer GET {target}"):
            async with self.exchange("GET", target, headers=(("connection", "close"),)) as exchange:
                return msgspec.json.decode(await exchange.receive_all())


@contextmanager
def deadline(seconds: float, reason: str) -> Iterator[None]:
    """Like `trio.fail_after`, but raises RuntimeUnavailableError with a reason."""
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise RuntimeUnavailableError(f"{reason} within {seconds:g} s")
