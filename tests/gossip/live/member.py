"""A member of ours in the test's own process, on real sockets."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from gossip.codec import Keyring, PacketCodec
from gossip.driver import GossipDriver, GossipSockets, open_sockets
from gossip.facts import FactLearned
from gossip.machine import ORCA_TAG, Gossip, config_of
from gossip.messages import Address
from gossip.serf import Left, QueryReceived, UserEventReceived
from gossip.serf.members import MemberStatus
from gossip.swim import LOCAL, JoinEnded, JoinRequested, SwimConfig
from node.sources import SystemClock
from tests.serf_agent import HOST, SEEN_S


class LiveMember:
    """What a node holds of gossip, with everything that it was told."""

    def __init__(self, machine: Gossip, sockets: GossipSockets, clock: SystemClock, ring: Keyring | None) -> None:
        self.machine = machine
        self.ring = ring
        self.address = sockets.address
        self.driver = GossipDriver(machine, clock, publish=self._publish)
        self.news: list[Any] = []
        self.handle = 0
        self.on_query: Callable[[QueryReceived], None] = lambda _query: None
        self._changed = trio.Event()

    def _publish(self, news: object) -> None:
        self.news.append(news)
        self._changed.set()
        if isinstance(news, QueryReceived):
            self.on_query(news)

    @property
    def name(self) -> str:
        return self.machine.swim.node

    def statuses(self) -> dict[str, str]:
        """Members by name, in Serf's words."""
        return {member.node: MemberStatus(member.status).name.lower() for member in self.machine.serf.members()}

    def events(self) -> list[tuple[str, bytes]]:
        """The user events that came, in order."""
        return [(one.name, one.payload) for one in self.news if isinstance(one, UserEventReceived)]

    def facts(self) -> list[FactLearned]:
        """The facts that came, in order."""
        return [one for one in self.news if isinstance(one, FactLearned)]

    async def until(self, is_so: Callable[[], object], what: str, timeout_s: float = SEEN_S) -> None:
        """Returns when `is_so`; looked at after each piece of news, and ten times a second."""
        with trio.move_on_after(timeout_s):
            while not is_so():
                self._changed = trio.Event()
                with trio.move_on_after(0.1):
                    await self._changed.wait()
            return
        raise AssertionError(f"{self.name}: {what} never came; it sees {self.statuses()}")

    async def sees(self, expected: dict[str, str], timeout_s: float = SEEN_S) -> None:
        """Returns when its members are as expected."""
        await self.until(lambda: self.statuses() == expected, f"{expected}", timeout_s)

    async def hears(self, name: str, payload: bytes) -> None:
        """Returns when that user event has come."""
        await self.until(lambda: (name, payload) in self.events(), f"the event {name}")

    async def join(self, *addresses: Address) -> None:
        """Join, and fail when nobody answers."""
        self.handle += 1
        handle = self.handle
        self.driver.tell(JoinRequested(handle=handle, addresses=addresses))

        def ends() -> list[JoinEnded]:
            return [one for one in self.news if isinstance(one, JoinEnded) and one.handle == handle]

        await self.until(ends, "the end of the join")
        assert ends()[0].joined, ends()[0].failures

    async def leaves(self) -> None:
        """Returns when the graceful leave, which was asked for, is over."""
        await self.until(lambda: any(isinstance(one, Left) for one in self.news), "the end of the leave")


@asynccontextmanager
async def live_member(
    name: str,
    *,
    keys: Sequence[bytes] = (),
    config: SwimConfig = LOCAL,
    tags: dict[str, str] | None = None,
    host: str = HOST,
    port: int = 0,
) -> AsyncIterator[LiveMember]:
    """A member until the end of the block, which ends it like a crash."""
    clock = SystemClock()
    rng = random.Random(name)
    ring = Keyring(list(keys), lambda: random.randbytes(12)) if keys else None
    sockets = await open_sockets(host, port)
    machine = Gossip(
        config_of(config),
        name,
        sockets.address,
        {ORCA_TAG: "test", **(tags or {})},
        PacketCodec(ring),
        rng,
        clock.now(),
        life=clock.wall(),
    )
    member = LiveMember(machine, sockets, clock, ring)
    async with trio.open_nursery() as nursery:
        await nursery.start(member.driver.run, sockets)
        yield member
        machine.check_invariants()
        nursery.cancel_scope.cancel()
