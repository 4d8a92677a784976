"""PySyncObj under load: `python -m simulations.bench.pysyncobj_member SELF OTHER OTHER JOURNAL`.

Its journal is on, which writes without ever syncing. The load is made inside the leader, which
spares it the door that the others have to be reached through.
"""

import logging
import selectors
import sys
import time
from collections import deque
from typing import Any

import msgspec
from pysyncobj import SyncObj, SyncObjConf, replicated

from simulations.bench.consensus_load import NAMES, WARM_UP_S, Load, load_of


class Table(SyncObj):  # type: ignore[misc]
    """Values by name."""

    def __init__(self, own: str, others: list[str], journal: str) -> None:
        # Without batching a lone put is not held back for 50 ms.
        conf = SyncObjConf(autoTick=False, journalFile=journal, appendEntriesUseBatch=False, commandsQueueSize=100_000)
        super().__init__(own, others, conf)
        self.values: dict[int, bytes] = {}

    @replicated  # type: ignore[untyped-decorator]
    def put(self, name: int, value: bytes) -> None:
        """Replicated."""
        self.values[name] = value


def drive(table: Table, in_flight: int, size: int, seconds: float) -> Load:
    """The same as `consensus_load.drive`, without a socket."""
    value = bytes(size)
    waiting = 0
    failed = 0
    times: list[float] = []
    ended: deque[tuple[float, Any]] = deque()
    counts_from = time.monotonic() + WARM_UP_S
    ends_at = counts_from + seconds
    number = 0
    while (now := time.monotonic()) < ends_at:
        while waiting < in_flight:
            began = time.monotonic()
            table.put(number % NAMES, value, callback=lambda _, error, began=began: ended.append((began, error)))
            number += 1
            waiting += 1
        table.doTick(0.001)
        while ended:
            began, error = ended.popleft()
            waiting -= 1
            now = time.monotonic()
            if now >= counts_from:
                times.append(now - began)
                failed += error != 0
    return load_of(times, failed, seconds)


def main() -> None:
    """Follow, or when an order comes on standard input and this node leads, load."""
    logging.disable(logging.CRITICAL)  # it often says that it truncates what was applied
    *names, journal = sys.argv[1:]
    table = Table(names[0], names[1:], journal)
    orders = selectors.DefaultSelector()
    orders.register(sys.stdin, selectors.EVENT_READ)
    while True:
        table.doTick(0.01)
        if not orders.select(0):
            continue
        words = sys.stdin.readline().split()
        match words:
            case []:
                return
            case ["state"]:
                leads = table._isLeader()  # noqa: SLF001 - there is no other way to ask
                print(msgspec.json.encode({"leads": leads}).decode(), flush=True)
            case [in_flight, size, seconds]:
                load = drive(table, int(in_flight), int(size), float(seconds))
                print(msgspec.json.encode(load).decode(), flush=True)


if __name__ == "__main__":
    main()
