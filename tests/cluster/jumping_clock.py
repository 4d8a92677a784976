"""`python -m tests.cluster.jumping_clock FILE WORDS...`: `orca WORDS` on a computer whose clock jumps.

FILE holds by how many seconds the clock on the wall is wrong now; no file, no error. Only that clock jumps: the one
that measures durations never does, on any Linux.
"""

import sys
import time
from pathlib import Path


def install(file: Path) -> None:
    """From now on `time.time` and `time.time_ns` are wrong by what `file` says."""
    real_ns = time.time_ns

    def wrong_ns() -> int:
        try:
            return real_ns() + int(file.read_text()) * 10**9
        except (FileNotFoundError, ValueError):
            return real_ns()

    time.time_ns = wrong_ns
    time.time = lambda: wrong_ns() / 1e9


if __name__ == "__main__":
    install(Path(sys.argv.pop(1)))
    from orca.cli.main import main

    main()
