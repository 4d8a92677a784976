"""How long short commands take, against an interpreter that does nothing: `python -m simulations.bench.cli`."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from simulations.bench.node_process import running_node
from simulations.bench.report import Line, show
from simulations.bench.sandbox import ROOT

ROUNDS: Final = 15
HELP_GOAL_MS: Final = 150.0


def _wall_ms(command: Sequence[str], environ: Mapping[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=dict(environ))
    return (time.perf_counter() - started) * 1000


def main() -> list[Line]:
    """Medians of all of them, taken in turn."""
    orca = [sys.executable, "-m", "orca"]
    bare = "python -c pass"
    commands: dict[str, Sequence[str]] = {
        bare: [sys.executable, "-c", "pass"],
        "orca --help": [*orca, "--help"],
        "orca version": [*orca, "version"],
        "orca status": [*orca, "status"],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory(prefix="orca-bench-") as name, running_node(Path(name), "--no-docker") as node:
        environ = {**os.environ, "ORCA_NODE": f"http://127.0.0.1:{node.api}"}
        for round_number in range(ROUNDS + 1):
            for what, command in commands.items():
                wall_ms = _wall_ms(command, environ)
                if round_number:  # the first one compiles and fills the page cache
                    took[what].append(wall_ms)
    return [
        Line(
            bench="cli",
            what=what,
            unit="ms",
            result=statistics.median(took[what]),
            limit=statistics.median(took[bare]),
            limit_name=f"({bare})",
            goal=HELP_GOAL_MS if what == "orca --help" else None,
            is_goal_of_ratio=False,
        )
        for what in commands
        if what != bare
    ]


if __name__ == "__main__":
    show(main())
