"""What every test gets: the Docker and Serf rules, and the marker of the integration tests.

A test marked `docker` is skipped where no engine answers, one marked `serf` where no agent is
installed, and the end of the run names it. With `CI=true` it may not be skipped, nor may anything
below `tests/integration`: there, a skip is a failure, because a machine that lost its engine would
otherwise look green.
"""

import functools
import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.images import engine_answers, why_no_docker
from tests.serf_agent import why_no_serf

HERE = Path(__file__).parent
INTEGRATION = HERE / "integration"
REAL_TIME = (
    INTEGRATION,
    HERE / "cluster",
    HERE / "gossip" / "live",
    HERE / "gossip" / "rpc",
    HERE / "node" / "runtime" / "test_docker.py",
    HERE / "orca" / "cli" / "test_demo.py",
)
"""What judges processes by the clock on the wall: a computer that stands still for seconds can fail it."""
NO_ENGINE = "no Docker engine answers"
NEEDS = ("docker", "serf")


@functools.cache
def docker_refusal() -> str:
    """Why Docker cannot be used here, empty when it can; asked once, 3 s at most."""
    named = os.environ.get("DOCKER_HOST", "")
    if named and not engine_answers(Path(named.removeprefix("unix://"))):
        return f"{NO_ENGINE} at {named}"
    reason = why_no_docker()
    return reason if not reason or reason.startswith(NO_ENGINE) else f"{NO_ENGINE}: {reason}"


def pytest_configure() -> None:
    """Undo what a script does to a job in its background: what the tests start must hear Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything below `tests/integration`, and everything with Docker or Serf, is an integration test.

    What runs in real time has a second try, which the end of the run tells with the failure of the first.
    """
    may_rerun = config.pluginmanager.hasplugin("rerunfailures")
    for item in items:
        if may_rerun and any(place in (item.path, *item.path.parents) for place in REAL_TIME):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if INTEGRATION in item.path.parents or any(map(item.get_closest_marker, NEEDS)):
            item.add_marker(pytest.mark.integration)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a Docker test where there is no engine, a Serf test where there is no agent."""
    if item.get_closest_marker("docker") and (refusal := docker_refusal()):
        pytest.skip(refusal)
    if item.get_closest_marker("serf") and (refusal := why_no_serf()):
        pytest.skip(refusal)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turn a skip for want of an engine or a network into a failure."""
    report = yield
    is_owed = any(map(item.get_closest_marker, NEEDS)) or INTEGRATION in item.path.parents
    if report.skipped and is_owed and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and with CI=true it has to run ({reason})"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that did not run, and why; and those that needed a second try, with what failed in the first."""
    by_reason: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        by_reason.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)
    for reason, names in by_reason.items():
        terminalreporter.write_line(f"{len(names)} skipped, {reason}:")
        for name in names:
            terminalreporter.write_line(f"  {name}")
    again = terminalreporter.stats.get("rerun", [])
    for report in again:
        terminalreporter.section(f"first try of {report.nodeid}", sep="-")
        terminalreporter.write_line(report.longreprtext)
