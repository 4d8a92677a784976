"""Ctrl-C: ends this program whenever it comes, in order where there is something to put in order.

Python's own way, a KeyboardInterrupt wherever the program happens to be, is not reliable: raised in a
destructor or a callback of the collector it is printed and forgotten, in an import it is a traceback, and
nobody looks at it while a thread reads standard input. So until trio runs the process simply ends, and
inside trio the signal is an event like any other, which cancels the verb. A SIGINT that whoever started
us wants ignored (nohup, or `orca deploy … &` in a script) stays ignored.
"""

import os
import signal
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Final

EXIT_INTERRUPTED: Final = 130


def leave_on_interrupt() -> None:
    """From now on SIGINT ends this process at once: it has nothing to put in order yet."""
    if not is_ignored():
        signal.signal(signal.SIGINT, _leave)


def is_ignored() -> bool:
    """Whether SIGINT is to be ignored."""
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


async def run_until_interrupt(work: Callable[[], Awaitable[int | None]]) -> int:
    """The exit code of `work`, 0 for None. SIGINT cancels it; a second one does not wait for its end.

    Raises KeyboardInterrupt when it was cancelled.
    """
    import trio

    if is_ignored():
        return await work() or 0
    scope = trio.CancelScope()
    code = 0

    async def watch() -> None:
        async for _ in signals:
            if scope.cancel_called:
                os._exit(EXIT_INTERRUPTED)
            scope.cancel()

    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            with scope:
                code = await work() or 0
            nursery.cancel_scope.cancel()
    if scope.cancelled_caught:
        raise KeyboardInterrupt
    return code


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_INTERRUPTED)
