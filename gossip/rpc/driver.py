"""A client of a Serf agent's RPC port on trio: one connection, any number of requests and streams at once.

    async with connect(Address("127.0.0.1", 7373), key) as agent:
        await agent.send_event("deploy", b"web")
        async with agent.follow_events("member-failed") as news:
            async for change in news: ...

Streams are bounded channels. One reader serves the whole connection, so it never waits for
whoever reads a stream: a stream whose reader falls behind is ended, and the end of its
`async with` block says so. Errors are those of `gossip.membership`, with `ForbiddenError` for
a wrong key, `NodeUnreachableError` for an agent that is gone or silent, and
`PeerProtocolError` for one that answers what no agent should.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import trio

from gossip.codec.dialect import CodecError
from gossip.membership import (
    Acked,
    Answered,
    Finished,
    KeyOperation,
    KeyReport,
    Member,
    MembershipNews,
    Question,
)
from gossip.messages import Address, CoordinatePayload
from gossip.rpc import protocol
from gossip.rpc.conversation import OPEN_MAX, Conversation, Record, Reply
from gossip.rpc.protocol import Fields
from gossip.rpc.records import (
    Stats,
    decode_coordinate,
    decode_joined,
    decode_key_report,
    decode_log,
    decode_member,
    decode_news,
    decode_query_news,
    decode_stats,
    member_values,
)
from gossip.rpc.requests import (
    Ask,
    Auth,
    ChangeKeys,
    ChangeTags,
    FilterMembers,
    FollowEvents,
    FollowLog,
    ForceLeave,
    Handshake,
    Join,
    LeaveCluster,
    ListMembers,
    ReadCoordinate,
    ReadStats,
    Request,
    Respond,
    SendEvent,
    StopStream,
    Streaming,
    command_of,
    key_text,
)
from orca.errors import (
    ForbiddenError,
    InvalidRequestError,
    NodeUnreachableError,
    NotAvailableError,
    NotFoundError,
    OrcaError,
    PeerProtocolError,
)

S = TypeVar("S")
T = TypeVar("T")
ANSWER_S: Final = 10.0
"""For what an agent does by itself; also for the connection and for a write."""
CLUSTER_S: Final = 60.0
"""For what it asks others: joins dial several addresses, keys are queries, a leave waits to be heard."""
RECORDS_BUFFERED: Final = 1024
"""Records of one stream that wait for its reader; as many as Serf's own monitor keeps."""
_RECEIVE_BYTES: Final = 64 * 1024
_REQUESTS_QUEUED: Final = 16
_MEMBERS_PER_TURN: Final = 256
"""Decoded without letting others run; some milliseconds."""


class _Call:
    """Somebody waits for a reply."""

    def __init__(self) -> None:
        self.is_over = trio.Event()
        self.reply: Reply | None = None


class _Stream(Generic[T]):
    """The agent's side of a channel."""

    def __init__(self, decode: Callable[[Fields], T | None]) -> None:
        self._send, self.receiver = trio.open_memory_channel[T](RECORDS_BUFFERED)
        self._decode = decode
        self.failure: OrcaError | None = None

    def take(self, fields: Fields) -> None:
        """One record. Raises CodecError."""
        item = self._decode(fields)
        if item is None:
            self._send.close()
            return
        try:
            self._send.send_nowait(item)
        except trio.WouldBlock:
            self.end(NotAvailableError(f"the stream was ended because {RECORDS_BUFFERED} records waited to be read"))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # nobody reads any more; the agent is about to be told

    def end(self, failure: OrcaError | None) -> None:
        """Nothing more comes, because of `failure`."""
        self.failure = self.failure or failure
        self._send.close()


class RpcClient:
    """A connection to an agent; made by `connect`, used while that block lasts."""

    def __init__(self, stream: trio.SocketStream, nursery: trio.Nursery, agent: Address) -> None:
        self._stream = stream
        self._nursery = nursery
        self._agent = agent
        self._conversation = Conversation()
        self._calls: dict[int, _Call] = {}
        self._streams: dict[int, _Stream[Any]] = {}
        self._failure: OrcaError | None = None
        self._outbox, self._outgoing = trio.open_memory_channel[bytes](_REQUESTS_QUEUED)

    # ------------------------------------------------------------------------ the cluster

    async def members(self) -> tuple[Member, ...]:
        """Everybody that the agent knows (`members`)."""
        return await self._members(ListMembers())

    async def members_filtered(
        self, tags: Mapping[str, str] | None = None, *, status: str = "", node: str = ""
    ) -> tuple[Member, ...]:
        """The members whose tags, status and name these expressions match as a whole (`members-filtered`).

        An agent hangs up on an expression that it cannot read: `NodeUnreachableError`.
        """
        return await self._members(FilterMembers(tags=tags or {}, status=status, node=node))

    async def join(self, addresses: Sequence[str], *, is_replaying: bool = False) -> int:
        """Meet whoever answers there; how many did (`join`)."""
        reply = await self._ask(Join(addresses=tuple(addresses), is_replaying=is_replaying), CLUSTER_S)
        return self._read(decode_joined, reply)

    async def leave(self) -> None:
        """Leave gracefully; the agent ends after it (`leave`)."""
        await self._ask(LeaveCluster(), CLUSTER_S)

    async def force_leave(self, node: str, *, is_prune: bool = False) -> None:
        """Declare a failed member gone (`force-leave`)."""
        await self._ask(ForceLeave(node=node, is_prune=is_prune))

    async def change_tags(self, tags: Mapping[str, str], removed: Sequence[str] = ()) -> None:
        """Take away tags of the agent, then set others (`tags`)."""
        await self._ask(ChangeTags(tags=tags, removed=tuple(removed)))

    async def send_event(self, name: str, payload: bytes = b"", *, is_coalescable: bool = False) -> None:
        """Tell everybody (`event`)."""
        await self._ask(SendEvent(name=name, payload=payload, is_coalescable=is_coalescable))

    async def respond(self, query_id: int, payload: bytes) -> None:
        """Answer a query that an event stream of this connection brought (`respond`)."""
        await self._ask(Respond(query_id=query_id, payload=payload))

    async def change_keys(self, operation: KeyOperation, key: bytes = b"") -> KeyReport:
        """Change or list the keys of all members (`install-key`, `use-key`, `remove-key`, `list-keys`)."""
        request = ChangeKeys(operation=operation, key=key_text(key))
        reply = await self._call(request, CLUSTER_S)
        report = self._read(lambda fields: decode_key_report(operation, fields), reply)
        if reply.error and not report.expected:
            raise self._refusal(request, reply.error)  # nobody was asked
        return report

    async def stats(self) -> Stats:
        """What the agent counts, by section (`stats`)."""
        return self._read(decode_stats, await self._ask(ReadStats()))

    async def coordinate(self, node: str) -> CoordinatePayload | None:
        """Where `node` is, None when the agent does not know (`get-coordinate`)."""
        return self._read(decode_coordinate, await self._ask(ReadCoordinate(node=node)))

    # ---------------------------------------------------------------------------- streams

    @contextlib.asynccontextmanager
    async def follow_events(self, kinds: str = "*") -> AsyncGenerator[trio.MemoryReceiveChannel[MembershipNews], None]:
        """What happens from now on, `kinds` of it such as `member-join,user:deploy` (`stream`, `stop`).

        An agent holds changes of members back for a second, to tell of several at once.
        """
        stream: _Stream[MembershipNews] = _Stream(decode_news)
        async with self._following(FollowEvents(kinds=kinds), stream) as channel:
            yield channel

    @contextlib.asynccontextmanager
    async def follow_log(self, level: str = "info") -> AsyncGenerator[trio.MemoryReceiveChannel[str], None]:
        """The agent's log: its last lines, then the new ones (`monitor`, `stop`)."""
        async with self._following(FollowLog(level=level), _Stream(decode_log)) as channel:
            yield channel

    @contextlib.asynccontextmanager
    async def ask(self, question: Question) -> AsyncGenerator[trio.MemoryReceiveChannel[Acked | Answered], None]:
        """Ask everybody; the channel ends when the time is over (`query`)."""

        def decode(fields: Fields) -> Acked | Answered | None:
            news = decode_query_news(fields)
            return None if isinstance(news, Finished) else news

        stream: _Stream[Acked | Answered] = _Stream(decode)
        async with self._following(Ask(question=question), stream) as channel:
            yield channel

    @contextlib.asynccontextmanager
    async def _following(
        self, request: Streaming, stream: _Stream[T]
    ) -> AsyncGenerator[trio.MemoryReceiveChannel[T], None]:
        reply = await self._ask(request, stream=stream)
        try:
            with stream.receiver:
                yield stream.receiver
        finally:
            self._streams.pop(reply.seq, None)
            self._conversation.forget_stream(reply.seq)
            if not isinstance(request, Ask):
                self._stop(reply.seq)
        if stream.failure is not None:
            raise _again(stream.failure)

    def _stop(self, seq: int) -> None:
        """Tell the agent that its stream `seq` is no longer wanted; nobody waits for the reply."""
        if self._failure is None:
            _, data = self._conversation.begin(StopStream(seq=seq))
            self._nursery.start_soon(self._outbox.send, data)

    # ----------------------------------------------------------------------- the connection

    async def greet(self, auth_key: str) -> None:
        """The first words of a connection (`handshake`, and `auth` with a key); `connect` says them."""
        await self._ask(Handshake(version=protocol.RPC_VERSION))
        if auth_key:
            await self._ask(Auth(key=auth_key))

    async def run(self) -> None:
        """Carry bytes until the connection ends or the task is cancelled; `connect` does it."""
        self._nursery.start_soon(self._write)
        while self._failure is None:
            try:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._fail(NodeUnreachableError(f"the connection to the Serf agent at {self._agent} broke: {error}"))
                return
            if not data:
                self._fail(NodeUnreachableError(f"the Serf agent at {self._agent} ended the connection"))
                return
            try:
                for incoming in self._conversation.receive(data):
                    self._dispatch(incoming)
            except CodecError as error:
                self._fail(self._unreadable(error))

    def close(self) -> None:
        """Whoever still waits for something learns that nothing more comes; `connect` calls it."""
        self._fail(NotAvailableError(f"the connection to the Serf agent at {self._agent} was closed"))

    async def _write(self) -> None:
        async for data in self._outgoing:
            if self._failure is not None:
                continue  # nobody may be left waiting for room in the queue
            try:
                with trio.fail_after(ANSWER_S):
                    await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
                self._fail(NodeUnreachableError(f"the Serf agent at {self._agent} takes no more requests: {error!r}"))

    def _dispatch(self, incoming: Reply | Record) -> None:
        if isinstance(incoming, Reply):
            call = self._calls.get(incoming.seq)
            if call is not None:
                call.reply = incoming
                call.is_over.set()
            elif self._conversation.forget_stream(incoming.seq):
                self._stop(incoming.seq)  # whoever asked for it gave up in the meantime
        elif (stream := self._streams.get(incoming.seq)) is not None:
            stream.take(incoming.fields)

    def _fail(self, failure: OrcaError) -> None:
        if self._failure is None:
            self._failure = failure
            for call in self._calls.values():
                call.is_over.set()
            for stream in self._streams.values():
                stream.end(failure)

    async def _members(self, request: ListMembers | FilterMembers) -> tuple[Member, ...]:
        values = self._read(member_values, await self._ask(request))
        found: list[Member] = []
        for start in range(0, len(values), _MEMBERS_PER_TURN):
            part = values[start : start + _MEMBERS_PER_TURN]
            found += self._decoded(lambda values: [decode_member(value) for value in values], part)
            await trio.lowlevel.checkpoint()
        return tuple(sorted(found, key=lambda member: member.node))

    async def _ask(self, request: Request, timeout_s: float = ANSWER_S, *, stream: _Stream[T] | None = None) -> Reply:
        reply = await self._call(request, timeout_s, stream=stream)
        if reply.error:
            raise self._refusal(request, reply.error)
        return reply

    async def _call(self, request: Request, timeout_s: float, *, stream: _Stream[T] | None = None) -> Reply:
        if self._failure is not None:
            raise _again(self._failure)
        if self._conversation.open_count >= OPEN_MAX:
            raise NotAvailableError(f"{OPEN_MAX} requests and streams are open at the Serf agent, which is the most")
        seq, data = self._conversation.begin(request)
        call = self._calls[seq] = _Call()
        if stream is not None:
            self._streams[seq] = stream
        is_sent = False
        try:
            with trio.move_on_after(timeout_s):
                await self._outbox.send(data)
                is_sent = True
                await call.is_over.wait()
        finally:
            del self._calls[seq]
            if not is_sent:
                self._conversation.withdraw(seq)
            if call.reply is None or call.reply.error:
                self._streams.pop(seq, None)
        if call.reply is not None:
            return call.reply
        if self._failure is not None:
            raise _again(self._failure)
        raise NodeUnreachableError(
            f"the Serf agent at {self._agent} did not answer `{command_of(request)}` within {timeout_s:g} s"
        )

    def _read(self, decode: Callable[[Fields], T], reply: Reply) -> T:
        return self._decoded(decode, reply.fields)

    def _decoded(self, decode: Callable[[S], T], value: S) -> T:
        """What `decode` makes of `value`; where it cannot, the agent is at fault."""
        try:
            return decode(value)
        except CodecError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: CodecError) -> PeerProtocolError:
        return PeerProtocolError(f"the Serf agent at {self._agent} sent what is no answer ({error.cause}): {error}")

    def _refusal(self, request: Request, words: str) -> OrcaError:
        text = f"the Serf agent at {self._agent} refuses `{command_of(request)}`: {' '.join(words.split())}"
        match words:
            case protocol.AUTH_REQUIRED | protocol.INVALID_AUTH:
                return ForbiddenError(text, hint="give the key of the agent's configuration (rpc_auth)")
            case protocol.UNSUPPORTED_VERSION | protocol.UNSUPPORTED_COMMAND | protocol.HANDSHAKE_REQUIRED:
                return PeerProtocolError(text)
            case protocol.INVALID_QUERY:
                return NotFoundError(text)
            case _ if isinstance(request, Join):
                return NodeUnreachableError(text)
            case _:
                return InvalidRequestError(text)


def _again(failure: OrcaError) -> OrcaError:
    """The same failure for one more of those whom it meets, with a traceback of its own."""
    return type(failure)(failure.message, hint=failure.hint)


@contextlib.asynccontextmanager
async def connect(agent: Address, auth_key: str = "") -> AsyncGenerator[RpcClient, None]:
    """A client of the agent that serves RPC at `agent`.

    Raises NodeUnreachableError when nobody answers, ForbiddenError for a wrong key.
    """
    try:
        with trio.fail_after(ANSWER_S):
            stream = await trio.open_tcp_stream(*agent)
    except (OSError, trio.TooSlowError) as error:
        raise NodeUnreachableError(
            f"no Serf agent answers at {agent}: {error!r}", hint="is it running, with this -rpc-addr?"
        ) from error
    raised: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            client = RpcClient(stream, nursery, agent)
            nursery.start_soon(client.run)
            try:
                await client.greet(auth_key)
                yield client
            except Exception as error:  # noqa: BLE001 - raised below, outside the nursery that would wrap it
                raised = error
            finally:
                client.close()
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)
    if raised is not None:
        raise raised
