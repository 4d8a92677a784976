"""The entry point: what can be answered without a parser, and the way to the parser."""

import os
import sys
from collections.abc import Sequence

from orca.cli.verbs import help_text
from orca.version import VERSION

_HELP: "tuple[list[str], ...]" = ([], ["--help"], ["-h"], ["help"])


def main() -> None:
    """Run the command line of this process and exit with its code."""
    given = sys.argv[1:]
    text = _known_answer(given)
    if text:
        sys.exit(_say(text))
    from orca.cli.interrupt import EXIT_INTERRUPTED, leave_on_interrupt

    leave_on_interrupt()
    code = run(given)
    if code == EXIT_INTERRUPTED:
        # A thread may still read standard input, and Python's own end would wait for it or abort.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(args: Sequence[str]) -> int:
    """Run one command; its exit code."""
    given = list(args)
    if text := _known_answer(given):
        return _say(text)
    from orca.cli.program import run_program

    return run_program(given)


def _known_answer(given: list[str]) -> str:
    """What is printed without looking at anything; empty when the command line has to be parsed."""
    if "_ORCA_COMPLETE" in os.environ:
        return ""
    if given in _HELP:
        return help_text()
    return f"orca {VERSION}\n" if given == ["--version"] else ""


def _say(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left; pointing the descriptor elsewhere keeps Python's own flush at exit quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0
