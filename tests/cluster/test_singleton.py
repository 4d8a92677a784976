"""A singleton on computers with Docker engines of their own: what its copies write says when each of them ran.

Every copy appends its fence and the time to one file, many times a second, and does not heed a request to stop. All
computers have one kernel and so one clock. The tests follow each other on one cluster.
"""

import signal
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cluster.bed import Bed, containers, leader
from tests.cluster.computers import SETTLE_S, alive, join_all
from tests.cluster.machines import Machine, machines, need_engines
from tests.images import WEB_IMAGE, docker
from tests.integration.node import until

pytestmark = [pytest.mark.docker, pytest.mark.integration, pytest.mark.slow]
MOVED_S = 90.0
"""A lease, its drift, and the start of a container on a busy computer, thrice."""
SERVICE = """[[service]]
name = "{name}"
image = "{image}"
pull = "never"
command = ["sh", "-c", '''
trap "" TERM
[ "$(cat /run/fence)" = "$ORCA_FENCE" ] || exit 3
while :; do read -r up idle < /proc/uptime; echo "$ORCA_FENCE $up" >> /log/lines; sleep 0.05; done
''']
networks = []
stop_timeout = "12s"
singleton = {{ lease = "{lease}" }}
mounts = [{{ kind = "bind", source = "{log}", target = "/log" }}]
env = {{ VERSION = "{version}" }}
files = {{ "/run/fence" = {{ fence = true }} }}
"""

PLAIN = """[[service]]
name = "{name}"
image = "{image}"
pull = "never"
command = ["sleep", "100000"]
networks = []
placement = {{ node = "{node}" }}
disconnect = {{ {disconnect} }}
"""


def deploy(one: Machine, log: Path, version: str, name: str = "one", lease: str = "15s") -> None:
    path = one.directory / f"{name}.toml"
    path.write_text(SERVICE.format(name=name, lease=lease, image=WEB_IMAGE, log=log, version=version))
    one.orca("deploy", str(path)).good()


def runs(log: Path) -> dict[int, tuple[float, float]]:
    """When each fence was seen first and last, in the order of the numbers."""
    found: dict[int, tuple[float, float]] = {}
    for line in (log / "lines").read_text().splitlines():
        fence, at_s = line.split()
        first, last = found.get(int(fence), (float(at_s), float(at_s)))
        found[int(fence)] = (min(first, float(at_s)), max(last, float(at_s)))
    return dict(sorted(found.items()))


def check_never_two(log: Path) -> None:
    """A larger number runs later, and begins only when the one before it has ended."""
    spans = list(runs(log).items())
    for (fence, (_, end)), (after, (begin, _)) in pairwise(spans):
        assert end < begin, f"{after} began at {begin}, and {fence} ended at {end}"


def holder(found: Sequence[Machine], name: str = "one") -> Machine:
    """Whose engine runs the copy; it is the only one."""

    def look() -> Machine | None:
        running = [one for one in found if containers(one, name)]
        return running[0] if len(running) == 1 else None

    return until(look, "one computer runs it", MOVED_S)


def new_run(log: Path, than: int) -> None:
    until(lambda: len(runs(log)) > than, "another copy writes", MOVED_S)
    check_never_two(log)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Bed]:
    need_engines()
    with machines(3) as bed:
        join_all(bed[0])
        yield bed


@pytest.fixture(scope="module")
def log(cluster: Bed) -> Path:
    found, _ = cluster
    place = found[0].directory.parent / "log"
    place.mkdir()
    deploy(found[0], place, "first")
    until(lambda: (place / "lines").exists() and runs(place), "it writes", SETTLE_S)
    return place


@pytest.fixture
def bed(cluster: Bed, log: Path) -> Iterator[Sequence[Machine]]:
    found, _ = cluster
    yield found
    check_never_two(log)
    for one in found:
        one.thaw_engine()
        one.host.plug()
        if one.process is None or one.process.poll() is not None:
            one.spawn("up")
    names = sorted(one.name for one in found)
    for one in found:
        until(lambda one=one: alive(one) == names, f"{one.name} lists all", SETTLE_S)  # type: ignore[misc] # bound now
    holder(found)
    check_never_two(log)


def test_a_computer_that_is_cut_off_ends_its_copy_before_another_starts(bed: Sequence[Machine], log: Path) -> None:
    before, cut = len(runs(log)), holder(bed)
    cut.host.unplug()
    new_run(log, before)
    assert containers(cut, "one") == 0, "it ended by itself, nobody could tell it to"
    assert holder(bed) is not cut


def test_a_computer_that_is_cut_off_stops_what_asks_for_that_and_nothing_else(bed: Sequence[Machine]) -> None:
    cut = next(one for one in bed if one is not leader(bed))
    for name, more in (("stops", 'keep = true, stop_after = "6s"'), ("stays", "keep = true")):
        path = cut.directory / f"{name}.toml"
        path.write_text(PLAIN.format(name=name, image=WEB_IMAGE, node=cut.name, disconnect=more))
        cut.orca("deploy", str(path)).good()
    cut.host.unplug()
    until(lambda: containers(cut, "stops") == 0, "it stops by itself", MOVED_S)
    assert containers(cut, "stays") == 1
    cut.host.plug()
    until(lambda: containers(cut, "stops") == 1, "another copy runs when the group is heard again", MOVED_S)
    cut.orca("rm", "-y", "stops", "stays").good()


def test_an_engine_that_hangs_as_well_keeps_no_copy_alive(bed: Sequence[Machine], log: Path) -> None:
    before, cut = len(runs(log)), holder(bed)
    cut.freeze_engine()
    cut.host.unplug()
    new_run(log, before)


def test_the_copy_of_a_daemon_that_is_killed_is_ended_with_its_lease(bed: Sequence[Machine], log: Path) -> None:
    before, killed = len(runs(log)), holder(bed)
    killed.kill()
    new_run(log, before)
    assert containers(killed, "one") == 0


def test_the_copy_of_a_daemon_that_hangs_is_ended_with_its_lease(bed: Sequence[Machine], log: Path) -> None:
    before, hung = len(runs(log)), holder(bed)
    hung.send(signal.SIGSTOP)
    new_run(log, before)
    hung.send(signal.SIGCONT)


def test_a_daemon_that_is_back_in_time_keeps_the_copy_and_its_fence(bed: Sequence[Machine], log: Path) -> None:
    own = log.parent / "two"
    own.mkdir()
    deploy(bed[0], own, "first", name="two", lease="2m")
    one = holder(bed, "two")
    before, container = list(runs(own)), started(one)
    one.kill()
    one.spawn("up")
    until(lambda: adoptions(one), "it is adopted", SETTLE_S)
    last = list(runs(own).values())[-1][1]
    until(lambda: list(runs(own).values())[-1][1] > last + 5, "it goes on", MOVED_S)
    assert started(one) == container
    assert list(runs(own)) == before
    bed[0].orca("rm", "-y", "two").good()


def started(one: Machine) -> str:
    return docker("ps", "-q", "--filter", "label=orca.service=default/two", host=one.engine)


def adoptions(one: Machine) -> int:
    return one.log.count("two.1 was running already and is kept")


def test_a_new_version_and_a_drain_hand_the_lease_over(bed: Sequence[Machine], log: Path) -> None:
    before, one = len(runs(log)), holder(bed)
    deploy(one, log, "second")
    new_run(log, before)
    drained = holder(bed)
    drained.orca("drain", drained.name, "--timeout", "60s").good()
    new_run(log, before + 1)
    assert holder(bed) is not drained
    drained.orca("undrain", drained.name).good()


def test_the_leader_dies_and_the_copy_goes_on(bed: Sequence[Machine], log: Path) -> None:
    lead, one = leader(bed), holder(bed)
    before = len(runs(log))
    lead.kill()
    if one is lead:
        new_run(log, before)
    else:
        last = list(runs(log).values())[-1][1]
        until(lambda: list(runs(log).values())[-1][1] > last + 20, "it outlives the lease that it had", MOVED_S)
        assert len(runs(log)) == before
