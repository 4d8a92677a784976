"""Lines of several copies as one stream."""

import heapq
from collections.abc import AsyncIterator

import trio

from orca.model.view import LogRecord


async def merged_by_time(readers: list[trio.MemoryReceiveChannel[LogRecord]]) -> AsyncIterator[LogRecord]:
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
