"""All benches, or those named, in one table: `python -m simulations.bench [NAME...]`."""

import sys
from collections.abc import Callable
from typing import Final

from simulations.bench import (
    cli,
    consensus,
    deploy,
    failover,
    figures,
    gossip,
    heal,
    idle,
    join,
    mesh,
    metrics,
    notices,
    partition,
    proxy,
    schedule,
    shell,
    wasm,
)
from simulations.bench.report import Line, say, show

BENCHES: Final[dict[str, Callable[[], list[Line]]]] = {
    "deploy": deploy.main,
    "failover": failover.main,
    "figures": figures.main,
    "heal": heal.main,
    "idle": idle.main,
    "cli": cli.main,
    "consensus": consensus.main,
    "mesh": mesh.main,
    "join": join.main,
    "metrics": metrics.main,
    "notices": notices.main,
    "gossip": gossip.main,
    "partition": partition.main,
    "proxy": proxy.main,
    "schedule": schedule.main,
    "shell": shell.main,
    "wasm": wasm.measure,
}


def main() -> int:
    """Run them one after the other; 2 for a name that is none."""
    names = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        say(f"no bench is called {', '.join(unknown)}; there are {', '.join(BENCHES)}")
        return 2
    lines: list[Line] = []
    for name in names:
        say(f"{name} ...")
        lines += BENCHES[name]()
    show(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
