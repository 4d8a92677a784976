"""One member of ours in a process of its own: `python -m simulations.bench.gossip_member NAME HOST PORT PROFILE`.

Says in one line each whom it sees join, fail and leave and which user events reach it; takes
`join HOST:PORT`, `event NAME` and `leave` on its standard input, one a line.
"""

import os
import random
import sys

import trio

from gossip.codec import PacketCodec
from gossip.driver import GossipDriver, open_sockets, resolve_seed
from gossip.machine import ORCA_TAG, Gossip, config_of
from gossip.serf import EventRequested, LeaveRequested, StatusChanged, UserEventReceived
from gossip.swim import PROFILES, JoinRequested
from node.sources import SystemClock

RETRY_S = 1.0


def show(news: object) -> None:
    """Print what a watcher counts."""
    match news:
        case StatusChanged(change=change, members=members):
            lines = "".join(f"{change.value} {member.node}\n" for member in members)
        case UserEventReceived(name=name):
            lines = f"event {name}\n"
        case _:
            return
    os.write(sys.stdout.fileno(), lines.encode())


async def obey(driver: GossipDriver) -> None:
    """Do what standard input says; a join that finds nobody is tried again, as an agent would."""
    handle = 0
    async for data in trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())):
        for line in bytes(data).decode().splitlines():
            word, _, rest = line.partition(" ")
            if word == "join":
                handle += 1
                driver.tell(JoinRequested(handle=handle, addresses=tuple(await resolve_seed(rest, 7946))))
            elif word == "event":
                driver.tell(EventRequested(name=rest))
            elif word == "leave":
                driver.tell(LeaveRequested())


async def main(name: str, host: str, port: int, profile: str) -> None:
    """Be a member until killed."""
    clock = SystemClock()
    sockets = await open_sockets(host, port)
    machine = Gossip(
        config_of(PROFILES[profile]),
        name,
        sockets.address,
        {ORCA_TAG: "bench"},
        PacketCodec(),
        random.Random(),
        clock.now(),
        life=clock.wall(),
    )
    driver = GossipDriver(machine, clock, publish=show)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run, sockets)
        os.write(sys.stdout.fileno(), f"joined {name}\n".encode())
        nursery.start_soon(obey, driver)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
