"""The command line of the simulator.

`python -m simulations --seed 7 --scenario raft` runs one seed, `--trace` shows every event of it;
`--seeds 1000` runs many; `python -m simulations mutations` plants bugs and tells which are caught,
`python -m simulations pinned` runs the seeds that once found something. Without arguments the number of
seeds is ORCA_SIM_SEEDS, 50 by default; a nightly run sets it to 1000 or more.

Three tables about gossip, with `--members` and `--seeds`: `lifeguard` (which part of it prevents how many false
positives), `profiles` (how fast and how dear each profile is) and `scale` (10,000 members).
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Sequence
from typing import Final

from gossip.swim import LAN, ORCA
from simulations.members import lifeguard, profiles, scale
from simulations.mutations.table import print_table
from simulations.scenarios import SCENARIOS, raft, services
from simulations.scenarios.pinned import PINNED, PINNED_SERVICES
from simulations.scenarios.report import Report
from simulations.seeds import Batch, run_batch

SEEDS_DEFAULT: Final = 50
GARBAGE: Final = 200_000
"""So many new objects before garbage is looked for: by default that is a tenth of the time of a large run."""
TABLES: Final = ("lifeguard", "profiles", "scale")


def say(line: str) -> None:
    """To the person who started it, now."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m simulations", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["run", "pinned", "mutations", *TABLES], default="run")
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="raft")
    parser.add_argument("--seed", type=int, help="run this seed only")
    parser.add_argument("--first", type=int, default=1, help="the first of many seeds")
    parser.add_argument("--seeds", type=int, help=f"how many seeds; ORCA_SIM_SEEDS or {SEEDS_DEFAULT} without it")
    parser.add_argument("--trace", action="store_true", help="with --seed: show every event")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="mutations: only this one")
    parser.add_argument("--members", type=int, help="the tables of gossip: how many members")
    return parser.parse_args(arguments)


def replay_command(report: Report) -> str:
    """What shows this failure again."""
    return f"python -m simulations --scenario {report.scenario} --seed {report.seed} --trace"


def show_failure(report: Report) -> None:
    """Seed, findings and the way to see it again."""
    for violation in report.violations[:5]:
        say(f"  {violation}")
    say(f"  replay: {replay_command(report)}")


def budget(given: int | None) -> int:
    """How many seeds to run."""
    return given if given is not None else int(os.environ.get("ORCA_SIM_SEEDS", SEEDS_DEFAULT))


def run_one(scenario: str, seed: int, *, is_traced: bool) -> int:
    """One seed; 1 when it fails."""
    began = time.monotonic()
    report = SCENARIOS[scenario](seed, say if is_traced else None)
    say(str(report))
    say(pace(report.virtual_s, time.monotonic() - began))
    if not report.is_good:
        show_failure(report)
    return 0 if report.is_good else 1


def run_many(scenario: str, first: int, count: int) -> int:
    """Many seeds; 1 when one fails, or when a fault never had an effect."""
    began = time.monotonic()

    def tell(report: Report) -> None:
        if not report.is_good:
            say(str(report))
            show_failure(report)

    batch = run_batch(lambda seed: SCENARIOS[scenario](seed, None), range(first, first + count), tell=tell)
    show_batch(batch, time.monotonic() - began)
    return 0 if batch.is_good else 1


def run_pinned() -> int:
    """The seeds of old failures; 1 when one of them is back."""
    back = 0
    for pin in PINNED:
        report = raft.run(pin.seed, pin.plan)
        back += not report.is_good
        say(f"{'ok' if report.is_good else 'BACK'}: seed {pin.seed}, {pin.what}")
    for one in PINNED_SERVICES:
        report = services.run(one.seed, plan=one.plan)
        back += not report.is_good
        say(f"{'ok' if report.is_good else 'BACK'}: services seed {one.seed}, {one.what}")
    return 1 if back else 0


def pace(virtual_s: float, seconds: float) -> str:
    """How fast simulated time went by."""
    return (
        f"{virtual_s:.0f} virtual s in {seconds:.1f} s: {virtual_s / max(seconds, 1e-9):.1f} times as fast as real time"
    )


def show_batch(batch: Batch, seconds: float) -> None:
    """The sum, and what each fault did."""
    say(f"{batch.runs} runs, {len(batch.failures)} failed, {seconds:.1f} s")
    say(pace(batch.virtual_s, seconds))
    say(f"{batch.done} operations, {batch.steps} steps of the machine")
    bites = batch.bites
    say("effects: " + ", ".join(f"{knob} {bites.effects[knob]} in {bites.drawn[knob]}" for knob in bites.drawn))
    if batch.figures:
        say("in all: " + ", ".join(f"{name} {amount:.6g}" for name, amount in batch.figures.items()))
    if batch.toothless:
        say(f"these faults were drawn and never had an effect: {', '.join(batch.toothless)}")


def print_gossip_table(what: str, members: int | None, seeds: int | None) -> int:
    """One of the tables of gossip; 1 when it does not say what it should."""
    if what == "lifeguard":
        return lifeguard.print_table(say, members or 64, range(1, (seeds or 1) + 1))
    if what == "profiles":
        return profiles.print_table(say, members or 32, range(1, (seeds or 3) + 1))
    return scale.print_table(say, {"lan": LAN, "orca": ORCA}, members or 500, seeds=seeds or 10)


def main(arguments: Sequence[str]) -> int:
    """Do what `arguments` ask for; the exit code."""
    options = parse(arguments)
    gc.set_threshold(GARBAGE)
    if options.what == "mutations":
        return print_table(say, options.only, options.seeds)
    if options.what == "pinned":
        return run_pinned()
    if options.what in TABLES:
        return print_gossip_table(options.what, options.members, options.seeds)
    if options.seed is not None:
        return run_one(options.scenario, options.seed, is_traced=options.trace)
    return run_many(options.scenario, options.first, budget(options.seeds))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
