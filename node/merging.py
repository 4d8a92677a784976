"""Lines of several sources as one, by time."""

import heapq
from collections.abc import AsyncGenerator

import trio

from orca.model.view import LogRecord


async def merged(readers: list[trio.MemoryReceiveChannel[LogRecord]]) -> AsyncGenerator[LogRecord, None]:
    """Lines of all `readers` by time; each one's own lines keep their order."""
    heap: list[tuple[int, int, LogRecord]] = []
    for number in range(len(readers)):
        await _pull(readers, number, heap)
    while heap:
        _, number, record = heapq.heappop(heap)
        yield record
        await _pull(readers, number, heap)


async def _pull(
    readers: list[trio.MemoryReceiveChannel[LogRecord]], number: int, heap: list[tuple[int, int, LogRecord]]
) -> None:
    try:
        record = await readers[number].receive()
    except trio.EndOfChannel:
        return
    heapq.heappush(heap, (record.at_ms, number, record))
