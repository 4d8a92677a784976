"""Calls of the API to other nodes: HTTP over a stream of the mesh, for whom a node was asked by.

What needs another node's runtime, its logs, its processes, its own history, is asked of that
node; nothing else is passed on, because every node knows what the cluster decided. A call is passed on
once: who gets it answers from what it has itself. Who asks is named in the stream's subject and judged
again (`passport.py`). Every wait has an end, and a node that gossip believes to be gone is not waited for.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

import trio

from node.api.caller import Caller
from node.api.control import Control
from node.api.passport import issue
from node.runtime.base import ExecRequest, ExecSession, LogStream
from orca.client.api import NodeClient
from orca.client.channel import ExecChannel, ExecOutput
from orca.client.discover import NodeAddress
from orca.errors import NodeUnreachableError, OrcaError
from orca.http import Connect
from orca.model.ids import AllocationId, NodeId
from orca.model.units import format_duration
from orca.model.view import MemberView, NodeSilence

CONNECT_S: Final = 3.0
ANSWER_S: Final = 8.0
"""A whole answer of another node; its own runtime has 5 s for what it is asked."""

Connector = Callable[[NodeId, bytes], AbstractAsyncContextManager[trio.abc.Stream]]
"""Opens a stream to a node with a subject; raises NodeUnreachableError or what the node refuses with."""


class FarNodes:
    """The other nodes of the cluster, as one node reaches them."""

    def __init__(self, control: Control, connect: Connector) -> None:
        self._control = control
        self._connect = connect

    @asynccontextmanager
    async def client(self, node: NodeId, caller: Caller) -> AsyncGenerator[NodeClient, None]:
        """The API of `node` for `caller`: for one call. Raises NodeUnreachableError."""
        member = self._member(node)
        if member is not None and member.state.is_gone:
            raise NodeUnreachableError(f"it is believed to have {member.state.value}")
        subject = issue(caller, self._control.observation().state_revision)
        async with AsyncExitStack() as stack:
            try:
                with trio.fail_after(CONNECT_S):
                    stream = await stack.enter_async_context(self._connect(node, subject))
            except trio.TooSlowError as error:
                raise NodeUnreachableError(f"no connection within {CONNECT_S:g} s") from error
            address = NodeAddress(label=f"node {self._name(node)}")
            client = NodeClient(address, timeout_s=ANSWER_S, connect=_once(stream))
            stack.push_async_callback(client.aclose)
            yield client

    @asynccontextmanager
    async def exec(
        self, node: NodeId, caller: Caller, allocation: AllocationId, request: ExecRequest
    ) -> AsyncGenerator[ExecSession, None]:
        """A command inside a copy that `node` runs. Raises NodeUnreachableError, with the age of its last word."""
        try:
            async with (
                self.client(node, caller) as client,
                client.exec(
                    allocation,
                    request.command,
                    tty=request.tty,
                    stdin=request.stdin,
                    user=request.user,
                    env=request.env,
                    rows=request.rows,
                    columns=request.columns,
                ) as channel,
            ):
                yield _FarSession(channel)
        except NodeUnreachableError as error:
            raise NodeUnreachableError(words_of(self.silence(node, error))) from error

    def others(self) -> tuple[NodeId, ...]:
        """The other nodes that have not left for good."""
        own = self._control.observation().observer
        members = self._control.membership.members()
        found = [one.id for one in members if one.id is not None and not one.state.is_for_good]
        return tuple(sorted(node for node in dict.fromkeys(found) if node != own))

    def silence(self, node: NodeId, error: Exception) -> NodeSilence:
        """That `node` does not answer, and how old what is known of it is."""
        member = self._member(node)
        age_ms: int | None = None
        if member is not None:
            age_ms = member.state_age_ms if member.heard_age_ms is None else member.heard_age_ms
        reason = error.message if isinstance(error, OrcaError) else f"no answer within {ANSWER_S:g} s"
        return NodeSilence(node=node, name=self._name(node), reason=reason, age_ms=age_ms)

    def _member(self, node: NodeId) -> MemberView | None:
        return next((one for one in self._control.membership.members() if one.id == node), None)

    def _name(self, node: NodeId) -> str:
        member = self._member(node)
        return str(node) if member is None else member.name


def words_of(silence: NodeSilence) -> str:
    """`silence` in a sentence."""
    known = (
        "" if silence.age_ms is None else f"; it was last heard of {format_duration(round(silence.age_ms / 1000))} ago"
    )
    return f"{silence.name} ({silence.node}) does not answer: {silence.reason}{known}"


def _once(stream: trio.abc.Stream) -> Connect:
    """Gives `stream` to the first who connects."""
    left: list[trio.abc.Stream] = [stream]

    async def connect() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if not left:
            raise ConnectionError("the connection was lost")
        return left.pop()

    return connect


class _FarSession:
    """An `ExecSession` of another node's."""

    def __init__(self, channel: ExecChannel) -> None:
        self._channel = channel

    async def send(self, chunk: bytes) -> None:
        """Give `chunk` to its stdin."""
        await self._channel.send(chunk)

    async def close_stdin(self) -> None:
        """End of its stdin."""
        await self._channel.close_stdin()

    async def receive(self) -> tuple[LogStream, bytes] | None:
        """The next piece of output; None when there is no more."""
        piece = await self._channel.receive()
        if piece is None:
            return None
        output, chunk = piece
        return (LogStream.STDOUT if output is ExecOutput.STDOUT else LogStream.STDERR), bytes(chunk)

    async def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal the size."""
        await self._channel.resize(rows, columns)

    async def exit_code(self) -> int:
        """Its exit code."""
        return await self._channel.exit_code()
