"""`exec` over a WebSocket (RFC 6455): binary frames are stdin, stdout and stderr, text frames are JSON."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Final, cast

import msgspec
import trio
import trio_websocket

from orca.client.answers import decode_error, decoded
from orca.client.channel import ExecOutput
from orca.client.discover import NodeAddress
from orca.errors import ErrorBody, NodeUnreachableError, OrcaError, PeerProtocolError, from_body
from orca.http import Connect, Headers

HANDSHAKE_TIMEOUT_S: Final = 30.0
CLOSE_TIMEOUT_S: Final = 2.0
MESSAGE_BYTES_MAX: Final = 4 * 2**20
STDIN_CHUNK_BYTES: Final = 64 * 1024


class _End(msgspec.Struct, frozen=True, kw_only=True):
    """The node's last text frame."""

    exit_code: int | None = None
    error: ErrorBody | None = None


class WebSocketChannel:
    """An `ExecChannel` on a WebSocket."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection, address: NodeAddress) -> None:
        self._websocket = websocket
        self._address = address
        self._end: _End | None = None

    async def send(self, chunk: bytes) -> None:
        """Give `chunk` to its stdin; a command that has ended takes nothing and says nothing."""
        for start in range(0, len(chunk), STDIN_CHUNK_BYTES):
            await self._send(chunk[start : start + STDIN_CHUNK_BYTES])

    async def close_stdin(self) -> None:
        """End of its stdin."""
        await self._send('{"eof":true}')

    async def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal the size."""
        await self._send(f'{{"resize":[{rows},{columns}]}}')

    async def receive(self) -> tuple[ExecOutput, bytes] | None:
        """The next piece of output; None when there is no more."""
        while self._end is None:
            try:
                message = await self._websocket.get_message()
            except trio_websocket.ConnectionClosed as error:
                raise NodeUnreachableError(
                    f"the node at {self._address} closed the connection while the command ran"
                ) from error
            if isinstance(message, str):
                self._end = decoded(message.encode(), _End, "exec")
            elif message:
                return _output(message[0]), message[1:]
        if self._end.error is not None:
            raise from_body(self._end.error)
        return None

    async def exit_code(self) -> int:
        """Its exit code; output that was not received is dropped."""
        while await self.receive() is not None:
            pass
        assert self._end is not None, "receive gave None before the end"
        if self._end.exit_code is None:
            raise PeerProtocolError("the node ended the session without an exit code")
        return self._end.exit_code

    async def _send(self, message: str | bytes) -> None:
        # A command may end while its input is still being typed; `receive` says how it ended.
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            await self._websocket.send_message(message)


def _output(byte: int) -> ExecOutput:
    try:
        return ExecOutput(byte)
    except ValueError as error:
        raise PeerProtocolError(f"the node sent output of the unknown kind {byte}") from error


@contextlib.asynccontextmanager
async def open_exec(
    address: NodeAddress, target: str, *, connect: Connect, headers: Headers = ()
) -> AsyncGenerator[WebSocketChannel, None]:
    """A session at `target`. Raises the node's error when it refuses, and `NodeUnreachableError`."""
    try:
        stream = await connect()
    except OSError as error:
        raise NodeUnreachableError(
            f"no node answers at {address}", hint="start one with `orca up`, or name another with --node or ORCA_NODE"
        ) from error
    raised: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(HANDSHAKE_TIMEOUT_S):
                websocket = await trio_websocket.wrap_client_stream(
                    nursery,
                    cast("trio.SocketStream", stream),  # it takes any stream
                    address.authority,
                    target,
                    extra_headers=[(name.encode(), value.encode("latin-1")) for name, value in headers],
                    max_message_size=MESSAGE_BYTES_MAX,
                )
            try:
                yield WebSocketChannel(websocket, address)
            except Exception as error:  # noqa: BLE001 - raised below, outside the nursery that would wrap it
                raised = error
            with trio.move_on_after(CLOSE_TIMEOUT_S):
                await websocket.aclose()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raised = _told(group, address, target)
        if raised is None:
            raise
    finally:
        await trio.aclose_forcefully(stream)
    if raised is not None:
        raise raised


def _told(group: BaseExceptionGroup[BaseException], address: NodeAddress, target: str) -> OrcaError | None:
    """The error that a failed handshake means; None when `group` is something else."""
    match group.exceptions:
        case (trio_websocket.ConnectionRejected(status_code=status, body=body),):
            return decode_error(status, body or b"", f"GET {target.partition('?')[0]}")
        case (trio.TooSlowError(),):
            return NodeUnreachableError(f"the node at {address} opened no session within {HANDSHAKE_TIMEOUT_S:g} s")
        case _:
            return None
