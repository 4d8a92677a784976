"""Our own gossip as a `Membership`, and as what the RPC server serves from.

The node's gossip driver publishes its news to `take` as well, and `tell` gives the machine an
event. Requests are told with handles of their own range, so that the news that answer them
find whoever waits; the node's own requests are not touched.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import trio

from gossip.driver import resolve_seed
from gossip.effects import Noted
from gossip.machine import Gossip
from gossip.membership import (
    Acked,
    Answered,
    EventReceived,
    Finished,
    KeyOperation,
    KeyReport,
    Member,
    MembershipNews,
    QueryNews,
    QueryReceived,
    Question,
)
from gossip.messages import Address, CoordinatePayload
from gossip.rpc.backend import LogLine
from gossip.rpc.embedded.views import change_of, line_of, member_of, stats_of
from gossip.serf import (
    EventRequested,
    ForceLeaveRequested,
    KeyCommandEnded,
    KeyCommandRequested,
    LeaveRequested,
    Left,
    QueryAcked,
    QueryAnswer,
    QueryAnswered,
    QueryClosed,
    QueryEnded,
    QueryKey,
    QueryRequested,
    Stage,
    StatusChanged,
    TagsChanged,
    UserEventReceived,
)
from gossip.serf import QueryReceived as SerfQueryReceived
from gossip.serf.events import JoinStarted
from gossip.swim import JoinEnded, JoinRequested
from orca.errors import InvalidRequestError, NodeUnreachableError, NotAvailableError, NotFoundError, OrcaError

GOSSIP_PORT: Final = 7946
FIRST_HANDLE: Final = 1 << 40
"""Handles of the node's own requests stay below."""
PENDING_QUERIES_MAX: Final = 1024
"""Queries received that may still be answered; the oldest makes room."""
ANSWER_S: Final = 60.0
"""For a join, a leave or a key command to end; each has a shorter deadline of its own in the machine."""

Tell = Callable[[object], None]
"""Steps an event of the node; raises errors of `orca.errors` for what cannot be done."""


class _Call:
    """Somebody waits for the news that answer a request."""

    def __init__(self) -> None:
        self.is_over = trio.Event()
        self.news: Any = None

    def end(self, news: object) -> None:
        self.news = news
        self.is_over.set()


class GossipMembership:
    """The cluster as `machine` sees it. It is an `RpcBackend`.

    `reserved_tags` belong to the node: nobody changes them through this interface.
    """

    def __init__(
        self,
        machine: Gossip,
        tell: Tell,
        *,
        version: str,
        is_encrypted: bool,
        reserved_tags: Sequence[str] = (),
        default_port: int = GOSSIP_PORT,
    ) -> None:
        self._machine = machine
        self._tell = tell
        self._version = version
        self._is_encrypted = is_encrypted
        self._reserved_tags = frozenset(reserved_tags)
        self._default_port = default_port
        self._handle = FIRST_HANDLE
        self._calls: dict[int, _Call] = {}
        self._questions: dict[int, Callable[[QueryNews], None]] = {}
        self._left = trio.Event()
        self._pending: dict[int, QueryKey] = {}
        self._next_query = 0
        self._sinks: dict[int, Callable[[MembershipNews], None]] = {}
        self._log_sinks: dict[int, Callable[[LogLine], None]] = {}

    # ------------------------------------------------------------------------------- reads

    @property
    def node(self) -> str:
        """Our name."""
        return self._machine.swim.node

    def members(self) -> tuple[Member, ...]:
        """Everybody known, by name."""
        return tuple(map(member_of, self._machine.serf.members()))

    def subscribe(self, sink: Callable[[MembershipNews], None]) -> Callable[[], None]:
        """Give all news from now on to `sink`; the function returned ends that."""
        return _put(self._sinks, self._next_handle(), sink)

    def subscribe_log(self, sink: Callable[[LogLine], None]) -> Callable[[], None]:
        """Give what gossip has to note from now on to `sink`; the function returned ends that."""
        return _put(self._log_sinks, self._next_handle(), sink)

    async def stats(self) -> Mapping[str, Mapping[str, str]]:
        """What `serf info` shows."""
        return stats_of(self._machine, self._version, is_encrypted=self._is_encrypted)

    async def coordinate(self, node: str) -> CoordinatePayload | None:
        """Where `node` is; None before its first ack."""
        return self._machine.serf.coordinate(node)

    # -------------------------------------------------------------------------------- news

    def take(self, news: object) -> None:
        """One piece of the driver's news; returns at once. What is not for us is let pass."""
        match news:
            case StatusChanged():
                self._publish(change_of(news))
            case UserEventReceived():
                self._publish(
                    EventReceived(
                        ltime=news.ltime, name=news.name, payload=news.payload, is_coalescable=news.is_coalescable
                    )
                )
            case SerfQueryReceived():
                self._on_query(news)
            case QueryAcked(handle=handle, node=node):
                self._on_answer(handle, Acked(node))
            case QueryAnswer(handle=handle, node=node, payload=payload):
                self._on_answer(handle, Answered(node, payload))
            case QueryEnded(handle=handle):
                sink = self._questions.pop(handle, None)
                if sink is not None:
                    sink(Finished())
            case JoinEnded(handle=handle) | KeyCommandEnded(handle=handle) if handle in self._calls:
                self._calls[handle].end(news)
            case Left():
                self._left.set()
            case Noted():
                for take in list(self._log_sinks.values()):
                    take(line_of(news))
            case _:
                pass

    def _publish(self, news: MembershipNews) -> None:
        for sink in list(self._sinks.values()):
            sink(news)

    def _on_query(self, news: SerfQueryReceived) -> None:
        self._next_query += 1
        self._pending[self._next_query] = news.key
        while len(self._pending) > PENDING_QUERIES_MAX:
            del self._pending[next(iter(self._pending))]
        self._publish(
            QueryReceived(query_id=self._next_query, ltime=news.key.ltime, name=news.name, payload=news.payload)
        )

    def _on_answer(self, handle: int, news: QueryNews) -> None:
        sink = self._questions.get(handle)
        if sink is not None:
            sink(news)

    # ------------------------------------------------------------------------------- calls

    async def join(self, addresses: Sequence[str], *, is_replaying: bool = False) -> int:
        """Meet whoever answers at these addresses; how many did, at least one."""
        found: list[Address] = []
        reasons: list[str] = []
        for address in addresses:
            try:
                found += await resolve_seed(address, self._default_port)
            except OrcaError as error:
                reasons.append(error.message)
        if found:
            handle = self._next_handle()
            events: list[object] = [JoinRequested(handle=handle, addresses=tuple(found))]
            if not is_replaying:
                events.append(JoinStarted(ignores_old=True))  # after the join's own start, before any answer
            ended: JoinEnded = await self._ask(handle, *events)
            if ended.joined:
                return ended.joined
            reasons += [f"{address}: {why}" for address, why in ended.failures]
        raise NodeUnreachableError(f"nobody could be joined: {'; '.join(reasons) or 'no address was given'}")

    async def leave(self) -> None:
        """Leave gracefully; returns when the others know."""
        if self._machine.serf.stage is not Stage.LEFT:
            self._tell(LeaveRequested())
            with trio.move_on_after(ANSWER_S):
                await self._left.wait()
                return
            raise NotAvailableError(f"the graceful leave was not over after {ANSWER_S:g} s")

    async def force_leave(self, node: str, *, is_prune: bool = False) -> None:
        """Declare that a failed member has left for good."""
        self._tell(ForceLeaveRequested(node=node, is_prune=is_prune))

    async def change_tags(self, tags: Mapping[str, str], removed: Sequence[str] = ()) -> None:
        """Take away tags of this node, then set others."""
        reserved = sorted(self._reserved_tags.intersection((*tags, *removed)))
        if reserved:
            raise InvalidRequestError(f"the node sets these tags itself: {', '.join(reserved)}")
        own = self._machine.serf.member(self.node)
        assert own is not None, "a node is a member of its own cluster"
        kept = {tag: value for tag, value in own.tags.items() if tag not in removed}
        self._tell(TagsChanged(tags=kept | dict(tags)))

    async def send_event(self, name: str, payload: bytes = b"", *, is_coalescable: bool = False) -> None:
        """Tell everybody."""
        self._tell(EventRequested(name=name, payload=payload, is_coalescable=is_coalescable))

    async def ask(self, question: Question, sink: Callable[[QueryNews], None]) -> Callable[[], None]:
        """Ask; what comes goes to `sink`, a `Finished` last. The function returned stops listening."""
        handle = self._next_handle()
        self._questions[handle] = sink
        try:
            self._tell(
                QueryRequested(
                    handle=handle,
                    name=question.name,
                    payload=question.payload,
                    filters=question.filters,
                    wants_ack=question.wants_ack,
                    relay_factor=question.relay_factor,
                    timeout_s=question.timeout_s,
                )
            )
        except OrcaError:
            del self._questions[handle]
            raise

        def stop() -> None:
            if self._questions.pop(handle, None) is not None:
                self._tell(QueryClosed(handle=handle))

        return stop

    async def respond(self, query_id: int, payload: bytes) -> None:
        """Answer a question that was received. Raises NotFoundError when it is over."""
        key = self._pending.get(query_id)
        if key is None:
            raise NotFoundError(f"no query {query_id} waits for an answer of this node")
        try:
            self._tell(QueryAnswered(key=key, payload=payload))
        except NotAvailableError as error:
            del self._pending[query_id]
            raise NotFoundError(error.message) from error
        del self._pending[query_id]

    async def change_keys(self, operation: KeyOperation, key: bytes = b"") -> KeyReport:
        """Do one thing to the keyrings of all members."""
        handle = self._next_handle()
        ended: KeyCommandEnded = await self._ask(
            handle, KeyCommandRequested(handle=handle, operation=operation, key=key)
        )
        return ended.report

    def _next_handle(self) -> int:
        self._handle += 1
        return self._handle

    async def _ask(self, handle: int, *events: object) -> Any:
        """Tell these events and wait for the news with that handle."""
        call = self._calls[handle] = _Call()
        try:
            for event in events:
                self._tell(event)
            with trio.move_on_after(ANSWER_S):
                await call.is_over.wait()
                return call.news
        finally:
            del self._calls[handle]
        raise NotAvailableError(f"the members did not answer within {ANSWER_S:g} s")


def _put(sinks: dict[int, Callable[[Any], None]], handle: int, sink: Callable[[Any], None]) -> Callable[[], None]:
    sinks[handle] = sink

    def leave() -> None:
        sinks.pop(handle, None)

    return leave
