"""`python -m tests`: the one command that checks everything, here and in CI.

Stages, in order: format, lint, types, import contracts, tests, and a smoke simulation
where there is one. A failed stage does not stop the next. The last line is a summary in
pytest's form, in which every stage without tests of its own counts as one test. Exit code
0 only when nothing failed and at least one test ran.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests import constraints

ROOT = Path(__file__).resolve().parent.parent
FAST = "not integration and not docker and not slow"
SHARED_OUT = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
"""Two processes, each with whole files, in their order: those that mostly wait for real time come first."""


@dataclass(frozen=True)
class Stage:
    """One command and what a person should read while it runs."""

    name: str
    saying: str
    command: tuple[str, ...]
    mending: str = ""


@dataclass
class Counts:
    """How many tests ended how; a stage without tests is one test."""

    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: int = 0

    def add(self, other: "Counts") -> None:
        """Count `other` in."""
        self.passed += other.passed
        self.failed += other.failed
        self.errors += other.errors
        self.skipped += other.skipped

    @property
    def is_good(self) -> bool:
        """Something passed and nothing failed."""
        return self.passed > 0 and self.failed == 0 and self.errors == 0

    def __str__(self) -> str:
        parts = ((self.failed, "failed"), (self.passed, "passed"), (self.skipped, "skipped"), (self.errors, "errors"))
        return ", ".join(f"{number} {word}" for number, word in parts if number) or "no tests ran"


@dataclass(frozen=True)
class Outcome:
    """How one stage ended."""

    stage: Stage
    counts: Counts
    seconds: float
    note: str = ""


@dataclass
class Options:
    """What the command line asks for."""

    fast: bool = False
    expression: str = ""
    only: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)


def static_stages() -> tuple[Stage, ...]:
    """The stages that read the code without running it."""
    python = sys.executable
    lint_imports = str(Path(python).parent / "lint-imports")
    return (
        Stage("format", "ruff format: is every file formatted?", (python, "-m", "ruff", "format", "--check", "."),
              "mend with: python -m ruff format ."),
        Stage("lint", "ruff check: house rules that a linter knows", (python, "-m", "ruff", "check", "--quiet", "."),
              "some of it mends itself with: python -m ruff check --fix ."),
        Stage("types", "mypy --strict: all packages", (python, "-m", "mypy")),
        Stage("imports", "import-linter: who may import whom", (lint_imports, "--no-logo")),
    )  # fmt: skip


def test_stage(options: Options, report: Path) -> Stage:
    """Pytest, with its results written to `report` as JUnit XML."""
    command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *SHARED_OUT]
    kind = "unit, contract and integration tests"
    if options.fast:
        command += ["-m", FAST]
        kind = "unit and contract tests, without the slow ones and those that need sockets, disks or engines"
    if options.expression:
        command += ["-k", options.expression]
        kind += f", those that match {options.expression!r}"
    return Stage("tests", f"pytest: {kind}", (*command, *options.extra))


def simulation_stage() -> Stage | None:
    """One short simulated run, where the simulator exists."""
    if not (ROOT / "simulations" / "__main__.py").exists():
        return None
    return Stage("simulation", "one simulated cluster, seed 1", (sys.executable, "-m", "simulations", "--seed", "1"))


def run_stage(stage: Stage) -> int:
    """Run `stage` with its output on ours; its exit code, 127 when the tool is not there."""
    print(f"\n── {stage.name}: {stage.saying}", flush=True)
    print(f"   $ {shlex.join(_shorten(stage.command))}", flush=True)
    try:
        return subprocess.run(stage.command, cwd=ROOT, check=False).returncode
    except FileNotFoundError:
        print(f"{stage.command[0]} is not there: install the checks as README.md says.", flush=True)
        return 127


def run_static(stage: Stage) -> Outcome:
    """Run a stage that has no tests of its own: it counts as one."""
    began = time.monotonic()
    code = run_stage(stage)
    seconds = time.monotonic() - began
    if code == 0:
        return Outcome(stage, Counts(passed=1), seconds)
    return Outcome(stage, Counts(failed=1), seconds, stage.mending or f"exit code {code}")


def run_tests(options: Options) -> Outcome:
    """Run pytest and count from its own report, so that nothing is guessed from text."""
    with tempfile.TemporaryDirectory(prefix="orca-tests-") as scratch:
        report = Path(scratch) / "report.xml"
        stage = test_stage(options, report)
        began = time.monotonic()
        code = run_stage(stage)
        seconds = time.monotonic() - began
        counts = read_report(report)
    if code == 0 and counts.passed == 0:
        counts.failed += 1
        return Outcome(stage, counts, seconds, "no test ran, which is no success")
    if code != 0 and counts.failed + counts.errors == 0:
        counts.errors += 1
        return Outcome(stage, counts, seconds, "no test was selected" if code == 5 else f"pytest ended with {code}")
    return Outcome(stage, counts, seconds)


def read_report(report: Path) -> Counts:
    """The counts in a JUnit report of pytest; all zero when it was not written."""
    counts = Counts()
    if not report.exists():
        return counts
    for suite in ET.parse(report).getroot().iter("testsuite"):
        total, failed, errors, skipped = (
            int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
        )
        counts.add(Counts(passed=total - failed - errors - skipped, failed=failed, errors=errors, skipped=skipped))
    return counts


def summary_line(total: Counts, seconds: float) -> str:
    """The closing line, in pytest's form."""
    return f" {total} in {seconds:.1f}s ".center(80, "=")


def run_all(options: Options) -> int:
    """Run every stage that is asked for, print the table and the summary; the exit code."""
    began = time.monotonic()
    outcomes: list[Outcome] = []
    for stage in static_stages():
        if not options.only or stage.name in options.only:
            outcomes.append(run_static(stage))
    if not options.only or "tests" in options.only:
        outcomes.append(run_tests(options))
    smoke = simulation_stage()
    if smoke is not None and (not options.only or smoke.name in options.only):
        outcomes.append(run_static(smoke))
    total = Counts()
    print()
    for outcome in outcomes:
        total.add(outcome.counts)
        verdict = "ok" if outcome.counts.is_good else "FAILED"
        details = f"  {outcome.counts}" if outcome.stage.name == "tests" else ""
        note = f"  ({outcome.note})" if outcome.note else ""
        print(f"{outcome.stage.name:<11}{verdict:<7}{outcome.seconds:7.1f} s{details}{note}")
    print(summary_line(total, time.monotonic() - began), flush=True)
    return 0 if total.is_good and all(outcome.counts.is_good for outcome in outcomes) else 1


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our own options, and what follows `--` for pytest."""
    ours, extra = list(arguments), []
    if "--" in ours:
        at = ours.index("--")
        ours, extra = ours[:at], ours[at + 1 :]
    parser = argparse.ArgumentParser(
        prog="python -m tests", description="Check everything.", epilog="What follows -- goes to pytest."
    )
    stages = [stage.name for stage in static_stages()] + ["tests", "simulation"]
    parser.add_argument("-k", dest="expression", default="", metavar="EXPR", help="only tests whose names match")
    parser.add_argument("--fast", action="store_true", help="leave out integration, Docker and slow tests")
    parser.add_argument("--only", action="append", default=[], choices=stages, help="only this stage; may be repeated")
    parser.add_argument("--constraints", action="store_true", help="write .ci/constraints*.txt again, check nothing")
    parser.add_argument("--upgrade", action="store_true", help="with --constraints: move to the newest versions")
    return parser.parse_args(ours), extra


def main(arguments: Sequence[str]) -> int:
    """Do what `arguments` ask for; the exit code."""
    parsed, extra = parse_arguments(arguments)
    if parsed.constraints:
        constraints.regenerate(ROOT, upgrade=parsed.upgrade)
        return 0
    where = (
        "CI: a skipped Docker test counts as failed"
        if os.environ.get("CI") == "true"
        else "without Docker, its tests are skipped"
    )
    print(f"Orca checks on Python {sys.version.split()[0]} ({where})", flush=True)
    try:
        return run_all(Options(fast=parsed.fast, expression=parsed.expression, only=parsed.only, extra=extra))
    except KeyboardInterrupt:
        print("\nInterrupted.", flush=True)
        return 130


def _shorten(command: Sequence[str]) -> list[str]:
    return ["python" if word == sys.executable else word for word in command if not word.startswith("--junitxml=")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
