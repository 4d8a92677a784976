"""The entry point: what can be answered without a parser, and the way to the parser."""

import os
import sys
from collections.abc import Sequence

from orca.cli.verbs import help_text
from orca.version import VERSION

_HELP: "tuple[list[str], ...]" = ([], ["--help"], ["-h"], ["help"])


def main() -> None:
    """Run the command line of this process and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command; its exit code."""
    given = list(args)
    if "_ORCA_COMPLETE" not in os.environ:
        if given in _HELP:
            return _say(help_text())
        if given == ["--version"]:
            return _say(f"orca {VERSION}\n")
    from orca.cli.program import run_program

    return run_program(given)


def _say(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left; pointing the descriptor elsewhere keeps Python's own flush at exit quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0
