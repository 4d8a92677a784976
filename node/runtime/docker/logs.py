"""The output of a container, followed over its restarts."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import trio

from node.runtime.base import LogLine
from node.runtime.docker.connection import Engine, deadline
from node.runtime.docker.frames import LogReader
from node.runtime.docker.records import Record
from node.runtime.docker.refusals import EngineRefusedError, as_error
from orca.errors import InstanceNotFoundError, RuntimeFailedError, RuntimeUnavailableError
from orca.model.units import WallMs

HEAD_TIMEOUT_S: Final = 15.0
READ_TIMEOUT_S: Final = 30.0
"""Of a log that is not followed, which the engine has on its disk."""

REOPEN_PAUSE_S: Final = 0.1
"""The engine may end the stream of a dead container before it publishes the death."""

RECHECK_S: Final = 30.0


async def read_lines(
    engine: Engine, record: Record, *, now_ms: WallMs, follow: bool, tail: int | None, since_ms: WallMs | None
) -> AsyncGenerator[LogLine, None]:
    """The lines of the container of `record`.

    The engine ends the stream of a followed log with the container's process; then the
    next start is waited for, and the stream goes on after the last line that was seen.
    """
    # The engine's `since` includes its own moment, and our millisecond has a million of its nanoseconds.
    after_ns = 0 if since_ms is None else (since_ms + 1) * 10**6 - 1
    is_first = True
    while not record.is_removed:
        changed, reader = record.changed, LogReader(after_ns)
        try:
            async with aclosing(_stream(engine, record, reader, follow=follow, tail=tail)) as lines:
                async for line in lines:
                    yield line
        except InstanceNotFoundError:
            if is_first:
                raise
            return
        except RuntimeUnavailableError:
            if not follow:
                raise
        if not follow:
            return
        # With `tail` the lines before were left out on purpose, and must not come after all.
        after_ns = reader.last_ns if reader.has_lines or tail is None else max(after_ns, now_ms * 10**6)
        tail, is_first = None, False
        await _wait_for_more(record, changed)


async def _wait_for_more(record: Record, changed: trio.Event) -> None:
    if record.is_running:
        await trio.sleep(REOPEN_PAUSE_S)
    else:
        with trio.move_on_after(RECHECK_S):
            await changed.wait()


async def _stream(
    engine: Engine, record: Record, reader: LogReader, *, follow: bool, tail: int | None
) -> AsyncGenerator[LogLine, None]:
    query = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": "1" if follow else "0"}
    query["tail"] = "all" if tail is None else str(tail)
    if reader.last_ns:
        query["since"] = f"{reader.last_ns // 10**9}.{reader.last_ns % 10**9:09}"
    target = engine.target(f"/containers/{record.container}/logs", query)
    try:
        async with engine.exchange("GET", target, head_timeout_s=HEAD_TIMEOUT_S) as exchange:
            while True:
                if follow:
                    chunk = await exchange.receive()  # for as long as the workload is silent; a lost engine closes it
                else:
                    with deadline(READ_TIMEOUT_S, f"Docker did not send the log of allocation {record.allocation}"):
                        chunk = await exchange.receive()
                if chunk is None:
                    return
                for line in reader.feed(chunk):
                    yield line
    except EngineRefusedError as refusal:
        raise as_error(refusal, f"read the log of allocation {record.allocation}") from refusal
    except ValueError as error:
        raise RuntimeFailedError(f"the log of allocation {record.allocation} cannot be read: {error}") from error
