"""Computers with Docker engines of their own, users on all of them, and what goes wrong around: one is cut off, two
do not hear each other, a clock jumps, one is emptied, one joins while a new version goes out. The tests follow each
other on one cluster.
"""

import threading
import time
from collections.abc import Iterator

import pytest

from tests.cluster.bed import (
    COPIES,
    MOVED_S,
    ROUTED_AROUND_S,
    Bed,
    containers,
    deploy,
    for_a_while,
    heard_of,
    is_well,
    leader,
    make_whole,
    urls,
)
from tests.cluster.computers import SETTLE_S, alive, join_all, state_of, voters
from tests.cluster.load import constant_load
from tests.cluster.machines import Machine, machines, need_engines
from tests.images import docker
from tests.integration.node import until

pytestmark = [pytest.mark.docker, pytest.mark.integration, pytest.mark.slow]
HOUR_S = 3600


@pytest.fixture(scope="module")
def cluster() -> Iterator[Bed]:
    """Three computers that are a cluster; a fourth is there and on."""
    need_engines()
    with machines(4) as (found, client):
        for one in found:
            one.program = ("tests.cluster.jumping_clock", str(one.directory / "clock"))
        join_all(found[:3])
        deploy(found[0], "one")
        yield found, client


@pytest.fixture
def bed(cluster: Bed) -> Bed:
    found, client = cluster
    make_whole(found[:3])
    return found[:3], client


def started(*found: Machine) -> set[str]:
    """The containers of the service that run, by id."""
    every = [docker("ps", "-q", "--filter", "label=orca.service=default/web", host=one.engine) for one in found]
    return {one for ids in every for one in ids.split()}


def follower(found: "Bed") -> Machine:
    """One that does not lead."""
    lead = leader(found[0])
    return next(one for one in found[0] if one is not lead)


def test_a_computer_that_is_cut_off_serves_on_alone_and_nothing_is_doubled_once_it_is_back(bed: Bed) -> None:
    found, client = bed
    cut = follower(bed)
    left = [one for one in found if one is not cut]
    with constant_load(client.command(), urls(*left)) as load:
        cut.host.unplug()
        began = time.monotonic()
        until(lambda: is_well(left[0], without=cut.name), "all copies run on the others", MOVED_S)
        assert cut.request("/web/") == "one\n", "what it has serves whoever is on its side"
        refused = cut.orca("restart", "web", "--detach")
        assert refused.code != 0, "it decides nothing alone"
    assert load.failures(after=began + ROUTED_AROUND_S) == []
    with constant_load(client.command(), urls(*left)) as load:
        cut.host.plug()
        for one in found:
            until(lambda one=one: is_well(one), f"{one.name} sees as many copies as before", SETTLE_S)  # type: ignore[misc] # bound now
        until(lambda: sum(containers(one) for one in found) == COPIES, "no container too many", SETTLE_S)
    assert load.failures() == []


def test_two_that_do_not_hear_each_other_serve_through_the_third_and_nothing_moves(bed: Bed) -> None:
    found, client = bed
    lead = leader(found)
    deaf, other = (one for one in found if one is not lead)
    before = started(*found)
    with constant_load(client.command(), urls(*found)) as load:
        deaf.host.refuse("-s", other.host.address)
        began = time.monotonic()
        for_a_while(ROUTED_AROUND_S + 6)
    assert load.failures(after=began + ROUTED_AROUND_S) == []
    for one in found:
        assert state_of(lead, one.name) == "alive"
    assert started(*found) == before
    assert leader(found) is lead


def test_a_clock_that_jumps_changes_nothing(bed: Bed) -> None:
    found, client = bed
    lead = leader(found)
    other = follower(bed)
    before = started(*found)
    with constant_load(client.command(), urls(*found)) as load:
        for one, wrong_s in ((lead, HOUR_S), (other, -HOUR_S), (lead, -HOUR_S), (lead, 0), (other, 0)):
            (one.directory / "clock").write_text(str(wrong_s))
            for_a_while(1.5)  # longer than an election would take to begin
            told_s = one.json("status")["observation"]["at_ms"] / 1000
            assert abs(told_s - time.time() - wrong_s) < 60, "the node goes by another clock than the one that jumps"
        assert leader(found) is lead
    assert load.failures() == []
    assert started(*found) == before
    deploy(found[1], "one")


def test_a_computer_is_emptied_under_load_and_no_request_fails(bed: Bed) -> None:
    found, client = bed
    drained = found[2]
    with constant_load(client.command(), urls(*found)) as load:
        found[0].orca("drain", drained.name, "--timeout", "60s").good()
        assert containers(drained) == 0
        assert is_well(found[1], without=drained.name)
        found[1].orca("undrain", drained.name).good()
    assert load.failures() == []


def test_one_joins_while_a_new_version_goes_out(bed: Bed, cluster: Bed) -> None:
    found, client = bed
    new = cluster[0][3]
    token = until(lambda: found[0].json("token", "create"), "a token", SETTLE_S)["token"]
    with constant_load(client.command(), urls(*found)) as load:
        deploying = threading.Thread(target=deploy, args=(found[1], "two"))
        deploying.start()
        new.spawn("join", found[0].host.address, token=token)
        deploying.join(SETTLE_S)
        names = sorted(one.name for one in (*found, new))
        for one in (*found, new):
            until(lambda one=one: alive(one) == names, f"{one.name} lists all", SETTLE_S)  # type: ignore[misc] # bound now
        until(lambda: is_well(found[0]), "all copies are ready", SETTLE_S)
        until(lambda: new.request("/web/") == "two\n", "the new one serves it as well", SETTLE_S)
    assert load.failures() == []
    assert len(voters(new)) == 3
    assert {copy["revision"] for copy in heard_of(new)} == {heard_of(found[0])[0]["revision"]}
