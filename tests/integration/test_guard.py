"""The guard with a real engine: a container dies at its deadline and not before, whoever is left to look after it."""

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.singletons import guard
from node.singletons.deadlines import Deadlines
from node.sources import boot_clock
from orca.model.ids import AllocationId
from orca.model.units import Instant
from tests.images import DEFAULT_SOCKET, WEB_IMAGE, docker, ensure_image, why_no_docker
from tests.integration.node import until

pytestmark = [
    pytest.mark.docker,
    pytest.mark.integration,
    pytest.mark.skipif(bool(why_no_docker()), reason=why_no_docker()),
]
A, B = AllocationId("guard-a"), AllocationId("guard-b")
LABEL = "orca.test=guard"


@pytest.fixture
def noted(tmp_path: Path) -> Iterator[Deadlines]:
    ensure_image()
    found = Deadlines(tmp_path, f"unix://{DEFAULT_SOCKET}", (LABEL,))
    try:
        yield found
    finally:
        for pid in guards(tmp_path):
            os.kill(pid, signal.SIGKILL)
        left = docker("ps", "-aq", "--filter", f"label={LABEL}").split()
        if left:
            docker("rm", "-f", *left)


def guards(directory: Path) -> list[int]:
    """The processes that guard `directory`."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = one.read_bytes().split(b"\0")
        except OSError:
            continue
        if guard.__file__.encode() in words and str(directory).encode() in words:
            found.append(int(one.parent.name))
    return found


def start(allocation: AllocationId, label: str = LABEL) -> str:
    words = ("--label", label, "--label", f"orca.allocation={allocation}", "--network", "none", WEB_IMAGE)
    return docker("run", "-d", *words, "sleep", "1000").strip()


def state_of(container: str) -> str:
    return docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", container).strip()


def test_what_a_lease_is_over_for_is_killed_and_nothing_else(noted: Deadlines, tmp_path: Path) -> None:
    first, second, foreign = start(A), start(B), start(A, "orca.test=other")
    try:
        noted.extend(A, Instant(boot_clock() + 2.0))
        noted.extend(B, Instant(boot_clock() + 1000.0))
        noted.ensure_guard()
        until(lambda: state_of(first) == "exited 137", "it is killed", 30)
        until(lambda: not (tmp_path / f"{A}{guard.SUFFIX}").exists(), "nothing is left to guard of it", 30)
        assert state_of(second) == "running 0"
        assert state_of(foreign) == "running 0", "of another cluster, or another node"
    finally:
        docker("rm", "-f", foreign)


def test_one_guard_at_a_time_and_a_new_one_when_it_is_gone(noted: Deadlines, tmp_path: Path) -> None:
    for _ in range(3):
        noted.ensure_guard()
    (pid,) = guards(tmp_path)
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_free(tmp_path), "it is gone", 10)
    container = start(A)
    noted.extend(A, Instant(boot_clock() + 1.0))
    noted.ensure_guard()
    assert guards(tmp_path) != [pid]
    until(lambda: state_of(container) == "exited 137", "the new one does its work", 30)


def test_a_container_that_was_made_and_not_started_can_be_started_no_more(noted: Deadlines) -> None:
    """An engine may carry out a start long after it was asked."""
    docker("create", "--label", LABEL, "--label", f"orca.allocation={A}", WEB_IMAGE, "sleep", "1000")
    noted.extend(A, Instant(boot_clock()))
    noted.ensure_guard()
    until(lambda: not docker("ps", "-aq", "--filter", f"label={LABEL}").split(), "it is removed", 30)


def is_free(directory: Path) -> bool:
    with (directory / guard.LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
