"""A cluster in memory behind the RPC server: does what it is told, and remembers it."""

import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from gossip.membership import (
    Acked,
    Answered,
    EventReceived,
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
    StatusChange,
)
from gossip.messages import MEMBERLIST_VERSION, Address, CoordinatePayload, NodeFilter
from gossip.rpc.backend import LogLevel, LogLine, RpcBackend
from gossip.rpc.server import RpcServer
from orca.errors import InvalidRequestError, NodeUnreachableError, NotFoundError

AUTH_KEY = "the key of the tests"
PRIMARY_KEY = bytes(range(16))


def make_member(node: str, number: int = 1, status: MemberStatus = MemberStatus.ALIVE, **tags: str) -> Member:
    return Member(
        node=node, address=Address(f"10.0.0.{number}", 7946), tags=tags, status=status, version=MEMBERLIST_VERSION
    )


class MemoryBackend:
    """Three members; `m1` is this node. Every query is answered by all whom its node filter lets through."""

    def __init__(self) -> None:
        self.table = {
            "m1": make_member("m1", 1, zone="east"),
            "m2": make_member("m2", 2, zone="west"),
            "m3": make_member("m3", 3, MemberStatus.FAILED),
        }
        self.calls: list[tuple[Any, ...]] = []
        self.keys = {base64.b64encode(PRIMARY_KEY).decode(): 2}
        self.sinks: list[Callable[[MembershipNews], None]] = []
        self.log_sinks: list[Callable[[LogLine], None]] = []
        self.questions: list[Question] = []
        self.open_questions: list[Callable[[QueryNews], None]] = []
        self.pending = {7: b""}
        self.is_answering = True

    @property
    def node(self) -> str:
        return "m1"

    def members(self) -> tuple[Member, ...]:
        return tuple(self.table.values())

    def subscribe(self, sink: Callable[[MembershipNews], None]) -> Callable[[], None]:
        self.sinks.append(sink)
        return lambda: self.sinks.remove(sink)

    def subscribe_log(self, sink: Callable[[LogLine], None]) -> Callable[[], None]:
        self.log_sinks.append(sink)
        return lambda: self.log_sinks.remove(sink)

    def last_call(self) -> tuple[Any, ...]:
        """What was asked of it last."""
        return self.calls[-1]

    def publish(self, news: MembershipNews) -> None:
        for sink in list(self.sinks):
            sink(news)

    def log(self, level: LogLevel, text: str) -> None:
        for sink in list(self.log_sinks):
            sink(LogLine(level=level, text=text))

    async def join(self, addresses: Sequence[str], *, is_replaying: bool = False) -> int:
        self.calls.append(("join", tuple(addresses), is_replaying))
        if not addresses or "10.9.9.9" in addresses:
            raise NodeUnreachableError("nobody answers at 10.9.9.9")
        return len(addresses)

    async def leave(self) -> None:
        self.calls.append(("leave",))

    async def force_leave(self, node: str, *, is_prune: bool = False) -> None:
        self.calls.append(("force_leave", node, is_prune))
        if node not in self.table:
            raise NotFoundError(f"no member is named {node!r}")
        if is_prune:
            del self.table[node]
        else:
            self.table[node] = msgspec.structs.replace(self.table[node], status=MemberStatus.LEFT)

    async def change_tags(self, tags: Mapping[str, str], removed: Sequence[str] = ()) -> None:
        kept = {tag: value for tag, value in self.table["m1"].tags.items() if tag not in removed}
        self.table["m1"] = msgspec.structs.replace(self.table["m1"], tags=kept | dict(tags))
        self.publish(MembersChanged(change=StatusChange.UPDATED, members=(self.table["m1"],)))

    async def send_event(self, name: str, payload: bytes = b"", *, is_coalescable: bool = False) -> None:
        if len(payload) > 512:
            raise InvalidRequestError(f"the payload has {len(payload)} bytes, at most 512 are sent")
        self.calls.append(("event", name, payload, is_coalescable))
        self.publish(EventReceived(ltime=1, name=name, payload=payload, is_coalescable=is_coalescable))

    async def ask(self, question: Question, sink: Callable[[QueryNews], None]) -> Callable[[], None]:
        self.questions.append(question)
        self.open_questions.append(sink)
        self.publish(QueryReceived(query_id=7, ltime=4, name=question.name, payload=question.payload))
        if self.is_answering:
            wanted = [one.nodes for one in question.filters if isinstance(one, NodeFilter)]
            for member in self.members():
                if member.status is MemberStatus.ALIVE and all(member.node in nodes for nodes in wanted):
                    if question.wants_ack:
                        sink(Acked(member.node))
                    sink(Answered(member.node, b"I am " + member.node.encode()))
            sink(Finished())
        return lambda: self.open_questions.remove(sink)

    async def respond(self, query_id: int, payload: bytes) -> None:
        if query_id not in self.pending:
            raise NotFoundError(f"query {query_id} is over")
        self.pending[query_id] = payload

    async def change_keys(self, operation: KeyOperation, key: bytes = b"") -> KeyReport:
        text = base64.b64encode(key).decode()
        failures = {}
        match operation:
            case KeyOperation.INSTALL:
                self.keys[text] = 2
            case KeyOperation.REMOVE:
                self.keys.pop(text, None)
            case KeyOperation.USE if text not in self.keys:
                failures = {"m1": "no such key", "m2": "no such key"}
            case _:
                pass
        self.calls.append((operation.value, key))
        return KeyReport(
            operation=operation,
            expected=2,
            answered=2,
            failures=failures,
            silent=(),
            keys=self.keys if operation is KeyOperation.LIST else {},
            primary_keys={},
        )

    async def stats(self) -> Mapping[str, Mapping[str, str]]:
        return {"agent": {"name": self.node}, "serf": {"members": str(len(self.table))}, "tags": self.table["m1"].tags}

    async def coordinate(self, node: str) -> CoordinatePayload | None:
        if node not in self.table:
            return None
        place = float(self.table[node].address.host.rpartition(".")[2]) / 1000
        return CoordinatePayload(vector=(place, *(0.0,) * 7), error=0.1, adjustment=0.0, height=1e-5)


def is_backend(backend: MemoryBackend) -> RpcBackend:
    """The type checker's word that it is one."""
    return backend


async def comes(is_so: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Returns when `is_so`; for what happens in another task or process."""
    with trio.fail_after(timeout_s):
        while True:
            if is_so():
                return
            await trio.sleep(0.02)


class Served:
    """A running server and what is behind it."""

    def __init__(self, backend: MemoryBackend, server: RpcServer, address: Address) -> None:
        self.backend = backend
        self.server = server
        self.address = address


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    """An RPC server of a new `MemoryBackend` until the end of the block."""
    backend = MemoryBackend()
    server = RpcServer(is_backend(backend), auth_key=AUTH_KEY, port=0)
    async with trio.open_nursery() as nursery:
        address: Address = await nursery.start(server.run)
        yield Served(backend, server, address)
        nursery.cancel_scope.cancel()
