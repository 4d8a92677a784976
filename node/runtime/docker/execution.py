"""A command inside a container, over the engine's hijacked connection."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

from node.runtime.base import ExecRequest, LogStream
from node.runtime.docker.calls import Calls
from node.runtime.docker.connection import Engine, Exchange
from node.runtime.docker.frames import FrameReader
from node.runtime.docker.refusals import EngineRefusedError, as_error
from orca.errors import InstanceNotFoundError, RuntimeFailedError, RuntimeUnavailableError
from orca.model.ids import AllocationId

EXIT_CODE_TIMEOUT_S: Final = 10.0
EXIT_CODE_POLL_S: Final = 0.02
END_OF_TRANSMISSION: Final = b"\x04"


class DockerExec:
    """A running exec; see `node.runtime.base.ExecSession`."""

    def __init__(self, calls: Calls, exec_id: str, exchange: Exchange, request: ExecRequest) -> None:
        self._calls = calls
        self._id = exec_id
        self._exchange = exchange
        self._request = request
        self._frames = FrameReader()
        self._ready: deque[tuple[LogStream, bytes]] = deque()
        self._send_lock = trio.Lock()

    async def send(self, chunk: bytes) -> None:
        """Give `chunk` to its stdin; waits while the command does not read."""
        async with self._send_lock:
            await self._exchange.send_raw(chunk)

    async def close_stdin(self) -> None:
        """End of its stdin; on a terminal, where input cannot end, what Ctrl-D sends."""
        async with self._send_lock:
            if self._request.tty:
                await self._exchange.send_raw(END_OF_TRANSMISSION)
            else:
                await self._exchange.send_eof()

    async def receive(self) -> tuple[LogStream, bytes] | None:
        """The next piece of output, or None after the last one."""
        while not self._ready:
            chunk = await self._exchange.receive()
            if chunk is None:
                return None
            if self._request.tty:
                return LogStream.STDOUT, chunk
            try:
                self._ready.extend(self._frames.feed(chunk))
            except ValueError as error:
                raise RuntimeFailedError(f"Docker answered an exec with something else: {error}") from error
        return self._ready.popleft()

    async def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size; nothing without one, or after the command ended."""
        if not self._request.tty:
            return
        try:
            await self._calls.query(
                "exec_resize", lambda client: client.exec_resize(self._id, height=rows, width=columns)
            )
        except EngineRefusedError:
            return  # The engine refuses it before the process is up and after its end; the next resize repairs it.

    async def exit_code(self) -> int:
        """Its exit code; call it after `receive` gave None."""
        with trio.move_on_after(EXIT_CODE_TIMEOUT_S):
            while True:
                # The end of the output comes a moment before the engine has noted the exit, of which it sends no event.
                try:
                    found = await self._calls.query("exec_inspect", lambda client: client.exec_inspect(self._id))
                except EngineRefusedError as refusal:
                    raise as_error(refusal, "read the exit code of the command") from refusal
                if not found.get("Running") and found.get("ExitCode") is not None:
                    return int(found["ExitCode"])
                await trio.sleep(EXIT_CODE_POLL_S)
        raise RuntimeUnavailableError(
            f"Docker did not say within {EXIT_CODE_TIMEOUT_S:g} s how the command ended; it may still run"
        )


@asynccontextmanager
async def open_exec(
    engine: Engine, calls: Calls, allocation: AllocationId, container: str, request: ExecRequest
) -> AsyncIterator[DockerExec]:
    """Run a command in `container`; leaving the block closes the connection."""
    task = f"run {request.command[0] if request.command else 'nothing'} in allocation {allocation}"
    environment = [f"{key}={value}" for key, value in request.env.items()]
    try:
        made = await calls.query(
            "exec_create",
            lambda client: client.exec_create(
                container,
                list(request.command),
                stdin=request.stdin,
                tty=request.tty,
                environment=environment,
                user=request.user or "",
            ),
        )
    except EngineRefusedError as refusal:
        if refusal.is_missing_container():
            raise InstanceNotFoundError(f"allocation {allocation} has no container (any more)") from refusal
        raise as_error(refusal, task) from refusal
    exec_id = str(made["Id"])
    body = msgspec.json.encode({"Detach": False, "Tty": request.tty})
    headers = (("content-type", "application/json"), ("connection", "Upgrade"), ("upgrade", "tcp"))
    try:
        async with engine.exchange(
            "POST", engine.target(f"/exec/{exec_id}/start"), headers=headers, body=body
        ) as exchange:
            session = DockerExec(calls, exec_id, exchange, request)
            await session.resize(request.rows, request.columns)
            yield session
    except EngineRefusedError as refusal:
        raise as_error(refusal, task) from refusal
