"""Serf's RPC port on trio: connections, their queues, and what the backend is asked.

Off unless it is given a key, and on loopback unless told otherwise: whoever has the key can
make this node leave, and the protocol carries it in the clear.

A client's requests are performed one after the other, as Serf does. What goes to it waits in
a queue of bounded size that one task empties. The backend publishes through plain functions,
so a client that does not read its streams cannot be waited for: when its queue is full, the
connection is ended and counted in `drops`.
"""

import errno
import math
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, NamedTuple, assert_never

import trio

from gossip.membership import Finished, KeyOperation, Member, MembershipNews, QueryNews
from gossip.messages import Address
from gossip.rpc.backend import LogLine, RpcBackend
from gossip.rpc.protocol import INVALID_QUERY, encode_reply_header
from gossip.rpc.records import (
    encode_coordinate,
    encode_joined,
    encode_key_report,
    encode_member,
    encode_members_head,
    encode_stats,
    key_complaint,
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
    key_bytes,
)
from gossip.rpc.server.selection import member_selector
from gossip.rpc.server.session import HangUp, Perform, Say, Session
from gossip.serf.effects import KeyReport
from orca.errors import AddressInUseError, InvalidConfigError, InvalidRequestError, NotFoundError, OrcaError

RPC_PORT: Final = 7373
CONNECTIONS_MAX: Final = 32
GREETING_S: Final = 10.0
"""To show the key in."""
WRITE_S: Final = 30.0
"""For a client to take one piece of what waits for it."""
QUEUE_BYTES_MAX: Final = 1024 * 1024
"""Records that may wait for a client; a reply may come on top."""
QUERIES_MAX: Final = 32
"""Queries of one connection that still gather answers."""
_RECEIVE_BYTES: Final = 64 * 1024
_MEMBERS_PER_TURN: Final = 256
"""Encoded without letting others run; some milliseconds."""


class RpcServer:
    """The RPC port of this node. Raises InvalidConfigError without a key.

    `port` 0 takes a free one; `run` tells which.
    """

    def __init__(self, backend: RpcBackend, *, auth_key: str, host: str = "127.0.0.1", port: int = RPC_PORT) -> None:
        if not auth_key.strip():
            raise InvalidConfigError(
                "the Serf RPC port needs an auth key: whoever reaches it can make this node leave the cluster"
            )
        self.drops: Counter[str] = Counter()
        self._backend = backend
        self._auth_key = auth_key
        self._host = host
        self._port = port
        self._connections = 0

    async def run(self, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started with the address once connections are accepted.

        Raises AddressInUseError when the port is taken.
        """
        try:
            listeners = await trio.open_tcp_listeners(self._port, host=self._host)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUseError(f"port {self._port} of {self._host} for Serf's RPC is taken") from error
            raise InvalidConfigError(f"Serf's RPC port cannot be opened on {self._host}: {error}") from error
        host, port, *_ = listeners[0].socket.getsockname()
        task_status.started(Address(host, port))
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self._connections >= CONNECTIONS_MAX:
            self.drops["connections"] += 1
            await trio.aclose_forcefully(stream)
            return
        self._connections += 1
        try:
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, True)
            connection = _Connection(self._backend, stream, Session(self._auth_key))
            await connection.run()
            if connection.drop_cause:
                self.drops[connection.drop_cause] += 1
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(stream)


class _Waiting(NamedTuple):
    """Bytes for the client; a record may be too much for it, a reply may not."""

    data: bytes
    is_record: bool


class _Connection:
    """One client."""

    def __init__(self, backend: RpcBackend, stream: trio.SocketStream, session: Session) -> None:
        self.drop_cause = ""
        self._backend = backend
        self._stream = stream
        self._session = session
        self._queue: deque[_Waiting] = deque()
        self._reply_bytes = 0
        self._record_bytes = 0
        self._has_more = trio.Event()
        self._has_replied = trio.Event()
        self._scope = trio.CancelScope()
        self._leave_news: Callable[[], None] | None = None
        self._leave_log: Callable[[], None] | None = None
        self._queries: dict[int, Callable[[], None]] = {}

    async def run(self) -> None:
        """Serve the client until it goes or has to go."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read()
                    # What was said before the end, a refusal for instance, should still arrive.
                    with trio.move_on_after(GREETING_S):
                        await self._drain()
                    nursery.cancel_scope.cancel()
        finally:
            self._unsubscribe()

    # ------------------------------------------------------------------------------- bytes

    async def _read(self) -> None:
        """Returns at the end of the connection."""
        with trio.move_on_after(GREETING_S) as greeting:
            while True:
                try:
                    data = await self._stream.receive_some(_RECEIVE_BYTES)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
                if not data:
                    return
                turns = self._session.receive(data)
                if self._session.is_trusted:
                    greeting.deadline = math.inf
                for turn in turns:
                    match turn:
                        case Say(data=reply):
                            self._put(reply)
                            self._follow()
                        case Perform(seq=seq, request=request):
                            await self._perform(seq, request)
                        case HangUp(cause=cause):
                            self.drop_cause = cause
                            return
                await self._drain()
        self.drop_cause = "no_greeting"

    async def _write(self) -> None:
        while True:
            while not self._queue:
                self._has_more = trio.Event()
                await self._has_more.wait()
            data, is_record = self._queue[0]
            for start in range(0, len(data), _RECEIVE_BYTES):
                try:
                    with trio.fail_after(WRITE_S):
                        await self._stream.send_all(data[start : start + _RECEIVE_BYTES])
                except trio.TooSlowError:
                    self._end("slow_reader")
                    return
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._scope.cancel()
                    return
            self._queue.popleft()
            if is_record:
                self._record_bytes -= len(data)
            else:
                self._reply_bytes -= len(data)
            if not self._reply_bytes:
                self._has_replied.set()

    def _put(self, reply: bytes) -> None:
        self._reply_bytes += len(reply)
        if self._has_replied.is_set():
            self._has_replied = trio.Event()
        self._enqueue(_Waiting(reply, is_record=False))

    def _put_record(self, record: bytes) -> None:
        if not record or self._scope.cancel_called:
            return
        self._record_bytes += len(record)
        if self._record_bytes > QUEUE_BYTES_MAX:
            self._end("slow_reader")
            return
        self._enqueue(_Waiting(record, is_record=True))

    def _enqueue(self, waiting: "_Waiting") -> None:
        self._queue.append(waiting)
        self._has_more.set()

    async def _drain(self) -> None:
        """Returns when every reply is on its way: the next request is not read before."""
        while self._reply_bytes:
            await self._has_replied.wait()

    def _end(self, cause: str) -> None:
        self.drop_cause = cause
        self._unsubscribe()
        self._scope.cancel()

    # ----------------------------------------------------------------------------- streams

    def _follow(self) -> None:
        """Listen to the backend as far as the client's streams want it."""
        if self._session.wants_news and self._leave_news is None:
            self._leave_news = self._backend.subscribe(self._take_news)
        elif not self._session.wants_news and self._leave_news is not None:
            self._leave_news()
            self._leave_news = None
        if self._session.wants_log and self._leave_log is None:
            self._leave_log = self._backend.subscribe_log(self._take_log)
        elif not self._session.wants_log and self._leave_log is not None:
            self._leave_log()
            self._leave_log = None

    def _unsubscribe(self) -> None:
        for leave in (self._leave_news, self._leave_log, *self._queries.values()):
            if leave is not None:
                leave()
        self._leave_news = self._leave_log = None
        self._queries.clear()

    def _take_news(self, news: MembershipNews) -> None:
        for record in self._session.records(news):
            self._put_record(record)

    def _take_log(self, line: LogLine) -> None:
        self._put_record(self._session.log_record(line))

    # ---------------------------------------------------------------------------- requests

    async def _perform(self, seq: int, request: Request) -> None:
        try:
            if isinstance(request, Ask):
                await self._ask(seq, request)
                return
            error, body = await self._outcome(request)
        except NotFoundError as failure:
            error, body = INVALID_QUERY if isinstance(request, Respond) else failure.message, _empty_body(request)
        except OrcaError as failure:
            error, body = failure.message, _empty_body(request)
        self._put(encode_reply_header(seq, error) + body)

    async def _outcome(self, request: Request) -> tuple[str, bytes]:
        """The error, and the body that follows it."""
        error, body = "", b""
        match request:
            case ListMembers() | FilterMembers():
                body = await self._members(request)
            case SendEvent(name=name, payload=payload, is_coalescable=is_coalescable):
                await self._backend.send_event(name, payload, is_coalescable=is_coalescable)
            case Join(addresses=addresses, is_replaying=is_replaying):
                body = encode_joined(await self._backend.join(addresses, is_replaying=is_replaying))
            case ForceLeave(node=node, is_prune=is_prune):
                await self._backend.force_leave(node, is_prune=is_prune)
            case LeaveCluster():
                await self._backend.leave()
            case ChangeTags(tags=tags, removed=removed):
                await self._backend.change_tags(tags, removed)
            case ChangeKeys():
                report = await self._change_keys(request)
                error, body = key_complaint(report), encode_key_report(report)
            case Respond(query_id=query_id, payload=payload):
                await self._backend.respond(query_id, payload)
            case ReadStats():
                body = encode_stats(await self._backend.stats())
            case ReadCoordinate(node=node):
                body = encode_coordinate(await self._backend.coordinate(node))
            case Ask() | Handshake() | Auth() | FollowEvents() | FollowLog() | StopStream():
                raise AssertionError("these are answered before")
            case _:
                assert_never(request)
        return error, body

    async def _members(self, request: ListMembers | FilterMembers) -> bytes:
        is_wanted = member_selector(request) if isinstance(request, FilterMembers) else _everybody
        members = self._backend.members()
        parts: list[bytes] = []
        for start in range(0, len(members), _MEMBERS_PER_TURN):
            turn = members[start : start + _MEMBERS_PER_TURN]
            parts += [encode_member(member) for member in turn if is_wanted(member)]
            await trio.lowlevel.checkpoint()
        return encode_members_head(len(parts)) + b"".join(parts)

    async def _change_keys(self, request: ChangeKeys) -> KeyReport:
        try:
            key = key_bytes(request.key)
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error
        return await self._backend.change_keys(request.operation, key)

    async def _ask(self, seq: int, request: Ask) -> None:
        if len(self._queries) >= QUERIES_MAX:
            words = f"{QUERIES_MAX} queries of this connection gather answers, which is the most"
            self._put(encode_reply_header(seq, words))
            return
        # Answers may come before the backend has returned; the reply goes first.
        early: list[QueryNews] = []
        is_answered = is_finished = False

        def take(news: QueryNews) -> None:
            nonlocal is_finished
            if not is_answered:
                early.append(news)
                return
            if isinstance(news, Finished):
                is_finished = True
                self._queries.pop(seq, None)
            self._put_record(self._session.query_record(seq, news))

        try:
            stop = await self._backend.ask(request.question, take)
        except OrcaError as failure:
            self._put(encode_reply_header(seq, failure.message))
            return
        self._put(encode_reply_header(seq))
        is_answered = True
        for news in early:
            take(news)
        if is_finished:
            stop()
        else:
            self._queries[seq] = stop


def _everybody(_: Member) -> bool:
    return True


def _empty_body(request: Request) -> bytes:
    """What follows a header with an error, where a client waits for a body all the same."""
    match request:
        case ListMembers() | FilterMembers():
            return encode_members_head(0)
        case Join():
            return encode_joined(0)
        case ChangeKeys(operation=operation):
            return encode_key_report(_nobody(operation))
        case ReadStats():
            return encode_stats({})
        case ReadCoordinate():
            return encode_coordinate(None)
        case _:
            return b""


def _nobody(operation: KeyOperation) -> KeyReport:
    return KeyReport(operation=operation, expected=0, answered=0, failures={}, silent=(), keys={}, primary_keys={})
