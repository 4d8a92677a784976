"""A membership that a Serf agent keeps, seen through its RPC port.

The agent's list of members is read once, and again whenever its event stream says that
something changed; the differences are the news. So a connection that was lost and made
again tells what happened meanwhile, but for what came and went. Reading a list of thousands
costs: after each reading there is a pause of ten times its duration.

While the agent is away the last list stands, calls raise `NotAvailableError`, and it is
dialled again and again, for ever.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import trio

from gossip.membership import (
    Finished,
    KeyOperation,
    KeyReport,
    Member,
    MembersChanged,
    MembershipNews,
    MemberStatus,
    QueryNews,
    QueryReceived,
    Question,
)
from gossip.messages import Address, CoordinatePayload
from gossip.rpc.delegate.differences import by_name, differences
from gossip.rpc.driver import RpcClient, connect
from gossip.rpc.records import Stats
from orca.errors import (
    ForbiddenError,
    InvalidRequestError,
    NotAvailableError,
    NotFoundError,
    OrcaError,
    PeerProtocolError,
)
from orca.sources import Rng

REFRESH_S: Final = 30.0
"""Read the members at least so often: no event tells of one that is just leaving."""
REFRESH_PAUSE_S: Final = 0.05
REFRESH_SHARE: Final = 10.0
RETRY_S: Final = 0.5
RETRY_MAX_S: Final = 15.0
QUESTIONS_MAX: Final = 64
"""Questions of ours that gather answers."""
_QUERY_BITS: Final = 40
"""An agent numbers the queries of each connection from 1; ours carry the connection above these bits."""


class SerfMembership:
    """The cluster of the agent that serves RPC at `agent`; `run` must be running.

    It keeps the contract of `gossip.membership.Membership`.
    """

    def __init__(self, agent: Address, auth_key: str, rng: Rng) -> None:
        self._agent = agent
        self._auth_key = auth_key
        self._rng = rng
        self._node = ""
        self._members: dict[str, Member] = {}
        self._listed: tuple[Member, ...] = ()
        self._listed_at = -math.inf
        self._sinks: dict[int, Callable[[MembershipNews], None]] = {}
        self._next_sink = 0
        self._client: RpcClient | None = None
        self._connection = 0
        self._absence = "it was not asked yet"
        self._has_started = False
        self._has_left = False
        self._questions = 0
        self._reading = trio.Lock()
        self._nursery: trio.Nursery | None = None

    # ------------------------------------------------------------------------------- reads

    @property
    def node(self) -> str:
        """The agent's name; empty before `run` has started."""
        return self._node

    @property
    def is_connected(self) -> bool:
        """Whether the agent can be asked now."""
        return self._client is not None

    @property
    def absence(self) -> str:
        """Why the agent cannot be asked, or could not be the last time."""
        return self._absence

    def members(self) -> tuple[Member, ...]:
        """What the agent told last, by name."""
        return self._listed

    def list_age_s(self) -> float:
        """How long ago it told that; infinite before the first list."""
        return trio.current_time() - self._listed_at

    def subscribe(self, sink: Callable[[MembershipNews], None]) -> Callable[[], None]:
        """Give all news from now on to `sink`; the function returned ends that."""
        self._next_sink += 1
        handle = self._next_sink
        self._sinks[handle] = sink

        def leave() -> None:
            self._sinks.pop(handle, None)

        return leave

    # --------------------------------------------------------------------------- the agent

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the agent until it has left or the task is cancelled; started with the first list.

        Raises ForbiddenError when the agent does not take the key: another try would not help.
        """
        refusal: ForbiddenError | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await self._follow_on(task_status)
            except ForbiddenError as error:
                refusal = error  # raised below, outside the nursery that would wrap it
            nursery.cancel_scope.cancel()
        if refusal is not None:
            raise refusal

    async def _follow_on(self, task_status: trio.TaskStatus[None]) -> None:
        """One connection after the other."""
        failures = 0
        while not self._has_left:
            try:
                await self._follow(task_status)
            except ForbiddenError:
                raise
            except OrcaError as error:
                self._absence = error.message
                failures = 0 if self._client is not None else failures + 1
            finally:
                self._client = None
            if not self._has_left:
                await trio.sleep(min(RETRY_MAX_S, RETRY_S * 2 ** min(failures, 16)) * self._rng.uniform(0.5, 1.0))

    async def _follow(self, task_status: trio.TaskStatus[None]) -> None:
        """One connection, until it ends with its error."""
        async with connect(self._agent, self._auth_key) as client, client.follow_events() as news:
            self._node = (await client.stats()).get("agent", {}).get("name", "")
            if not self._node:
                raise PeerProtocolError(f"the Serf agent at {self._agent} does not tell its name")
            self._connection += 1
            pause_s = await self._refresh(client)
            self._client = client
            if not self._has_started:
                self._has_started = True
                task_status.started()
            refresh_at = trio.current_time() + REFRESH_S
            earliest = trio.current_time() + pause_s
            while True:
                with trio.move_on_at(refresh_at):
                    try:
                        refresh_at = min(refresh_at, self._take(await news.receive(), earliest))
                    except trio.EndOfChannel:
                        return  # the block above raises why
                if trio.current_time() >= refresh_at:
                    pause_s = await self._refresh(client)
                    earliest = trio.current_time() + pause_s
                    refresh_at = trio.current_time() + REFRESH_S

    def _take(self, news: MembershipNews, earliest: float) -> float:
        """Tell the news, or when to look for them."""
        if isinstance(news, MembersChanged):
            return earliest
        if isinstance(news, QueryReceived):
            number = self._connection << _QUERY_BITS | news.query_id
            news = msgspec.structs.replace(news, query_id=number)
        self._publish(news)
        return math.inf

    async def _refresh(self, client: RpcClient) -> float:
        """Read the members and tell what changed; how many seconds to leave the agent in peace."""
        async with self._reading:  # lists that overtake each other would tell old news as new
            begun = trio.current_time()
            self._replace(by_name(await client.members()))
            return max(REFRESH_PAUSE_S, REFRESH_SHARE * (trio.current_time() - begun))

    def _replace(self, members: dict[str, Member]) -> None:
        before, self._members = self._members, members
        self._listed = tuple(members.values())
        self._listed_at = trio.current_time()
        for change in differences(before, members):
            self._publish(change)

    def _publish(self, news: MembershipNews) -> None:
        for sink in list(self._sinks.values()):
            sink(news)

    def _connected(self) -> RpcClient:
        if self._client is None:
            raise NotAvailableError(f"the Serf agent at {self._agent} cannot be asked at present: {self._absence}")
        return self._client

    # ------------------------------------------------------------------------------- calls

    async def join(self, addresses: Sequence[str], *, is_replaying: bool = False) -> int:
        """Meet whoever answers at these addresses; how many did."""
        client = self._connected()
        joined = await client.join(addresses, is_replaying=is_replaying)
        await self._refresh(client)
        return joined

    async def leave(self) -> None:
        """Leave gracefully. The agent ends with it, and so does `run`."""
        await self._connected().leave()
        self._has_left = True
        self._absence = "it has left the cluster"
        own = self._members.get(self._node)
        if own is not None:
            self._replace(self._members | {self._node: msgspec.structs.replace(own, status=MemberStatus.LEFT)})

    async def force_leave(self, node: str, *, is_prune: bool = False) -> None:
        """Declare that a failed member has left for good. Raises NotFoundError for an unknown one."""
        client = self._connected()
        if node not in self._members:
            raise NotFoundError(f"no member is named {node!r}")  # the agent itself would say that all is well
        await client.force_leave(node, is_prune=is_prune)
        await self._refresh(client)

    async def change_tags(self, tags: Mapping[str, str], removed: Sequence[str] = ()) -> None:
        """Take away tags of this node, then set others."""
        client = self._connected()
        await client.change_tags(tags, removed)
        await self._refresh(client)

    async def send_event(self, name: str, payload: bytes = b"", *, is_coalescable: bool = False) -> None:
        """Tell everybody."""
        await self._connected().send_event(name, payload, is_coalescable=is_coalescable)

    async def ask(self, question: Question, sink: Callable[[QueryNews], None]) -> Callable[[], None]:
        """Ask; what comes goes to `sink`, a `Finished` last. The function returned stops listening."""
        client = self._connected()
        if self._questions >= QUESTIONS_MAX:
            raise NotAvailableError(f"{QUESTIONS_MAX} questions gather answers, which is the most")
        assert self._nursery is not None, "a connection lives inside run"
        stop: Callable[[], None] = await self._nursery.start(self._gather, client, question, sink)
        return stop

    async def respond(self, query_id: int, payload: bytes) -> None:
        """Answer a question that was received."""
        client = self._connected()
        connection, number = query_id >> _QUERY_BITS, query_id & ((1 << _QUERY_BITS) - 1)
        if connection != self._connection:
            raise NotFoundError(f"query {query_id} came by a connection to the agent that is gone")
        await client.respond(number, payload)

    async def change_keys(self, operation: KeyOperation, key: bytes = b"") -> KeyReport:
        """Do one thing to the keyrings of all members."""
        client = self._connected()
        if (await client.stats()).get("serf", {}).get("encrypted") == "false":
            raise InvalidRequestError(
                "the cluster is not encrypted, so it has no keys", hint="start Serf with -encrypt"
            )
        return await client.change_keys(operation, key)

    async def stats(self) -> Stats:
        """What the agent counts, by section."""
        return await self._connected().stats()

    async def coordinate(self, node: str) -> CoordinatePayload | None:
        """Where `node` is in Vivaldi's space; None when the agent does not know."""
        return await self._connected().coordinate(node)

    async def _gather(
        self,
        client: RpcClient,
        question: Question,
        sink: Callable[[QueryNews], None],
        *,
        task_status: trio.TaskStatus[Callable[[], None]],
    ) -> None:
        self._questions += 1
        is_asked = False
        reason = ""
        try:
            with trio.CancelScope() as scope:
                async with client.ask(question) as answers:
                    is_asked = True
                    task_status.started(scope.cancel)
                    async for news in answers:
                        sink(news)
        except OrcaError as error:
            if not is_asked:
                raise
            reason = error.message
        finally:
            self._questions -= 1
        if not scope.cancelled_caught:
            sink(Finished(reason=reason))
