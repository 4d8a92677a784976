"""One command of the shell, in a child process, and what its output goes through."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from orca.errors import OrcaError
from orca.repl.filters import make_filter
from orca.repl.pipeline import Pipeline

EXIT_BROKEN_PIPE: Final = 141


def run_pipeline(pipeline: Pipeline, run: Callable[[Sequence[str]], int]) -> int:
    """The exit code of the command, run by `run` in a child. Raises OrcaError for filters that cannot be made.

    Ctrl-C is the child's meanwhile.
    """
    filters = [make_filter(words) for words in pipeline.filters]
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe() if filters else (-1, -1)
    # Ctrl-C is the child's from its first moment on: until both have set what they do about it, it waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if not child:
        if filters:
            os.close(reading)
            os.dup2(writing, sys.stdout.fileno())
            os.close(writing)
        _be_command(pipeline.command, run)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        refused: OrcaError | None = None
        if filters:
            os.close(writing)
            try:
                _pour(reading, filters)
            except OrcaError as error:
                refused = error
        _, status = os.waitpid(child, 0)
    finally:
        signal.signal(signal.SIGINT, before)
    if refused is not None:
        raise refused
    code = os.waitstatus_to_exitcode(status)
    if filters and code == EXIT_BROKEN_PIPE:  # a filter had enough
        return 0
    return code if code >= 0 else 128 - code


def _pour(reading: int, filters: Sequence[Callable[[Iterator[str]], Iterator[str]]]) -> None:
    with os.fdopen(reading, encoding="utf-8", errors="replace") as source:
        lines: Iterator[str] = (line.rstrip("\n") for line in source)
        for one in filters:
            lines = one(lines)
        for line in lines:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def _be_command(words: Sequence[str], run: Callable[[Sequence[str]], int]) -> None:
    """The child's whole life."""
    code = 1
    try:
        signal.signal(signal.SIGINT, _leave)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        code = run(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - a child never returns into the shell
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(BrokenPipeError, ValueError):
            sys.stdout.flush()
        with suppress(BrokenPipeError, ValueError):
            sys.stderr.flush()
        os._exit(code)


def _leave(_number: int, _frame: object) -> None:
    os._exit(130)
