"""Three computers with Docker engines of their own and a constant load of requests through their proxies: what a person
does to a cluster, and what happens to one, while its users are there. The tests follow each other on one cluster.
"""

import signal
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
    heard_of,
    is_well,
    leader,
    make_whole,
    urls,
)
from tests.cluster.computers import SETTLE_S, alive, join_all, state_of
from tests.cluster.load import constant_load
from tests.cluster.machines import Machine, machines, need_engines
from tests.images import docker
from tests.integration.node import until

pytestmark = [pytest.mark.docker, pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Bed]:
    need_engines()
    with machines(3) as (found, client):
        join_all(found)
        deploy(found[0], "one")
        yield found, client


@pytest.fixture
def bed(cluster: Bed) -> Bed:
    make_whole(cluster[0])
    return cluster


def test_an_update_under_load_fails_no_request_on_any_node(bed: Bed) -> None:
    found, client = bed
    with constant_load(client.command(), urls(*found)) as load:
        deploy(found[1], "two")
    assert load.failures() == []
    assert len(load.asked) > 20
    for one in found:
        assert one.request("/web/") == "two\n"


def test_an_engine_that_hangs_is_told_and_costs_no_request(bed: Bed) -> None:
    found, client = bed
    hung = found[2]
    with constant_load(client.command(), urls(*found)) as load:
        hung.freeze_engine()
        try:
            until(lambda: refusal(found[0], hung.name), "its node says that the engine does not answer", SETTLE_S)
        finally:
            hung.thaw_engine()
        until(lambda: not refusal(found[0], hung.name), "the engine is there again", SETTLE_S)
    assert load.failures() == []
    assert sum(containers(one) for one in found) == COPIES


def test_a_command_runs_in_any_copy_from_any_computer(bed: Bed) -> None:
    found, _ = bed
    copies = {copy["slot"] + 1: copy for copy in heard_of(found[0])}
    assert len({copy["node"] for copy in copies.values()}) == 3
    for one in found:
        for number, copy in copies.items():
            words = ("exec", "-i", f"web.{number}", "--", "sh", "-c", "cat; echo $ORCA_ALLOCATION; exit 7")
            done = one.orca(*words, stdin=b"from afar\n")
            assert (done.code, done.out) == (7, f"from afar\n{copy['id']}\n"), f"{one.name}: {done}"
        assert one.orca("logs", "web").code == 0
        assert [copy["problem"] for copy in one.json("stats", "web")["stats"]] == [""] * COPIES
    gone, asking = found[2], found[0]
    number = next(number for number, copy in copies.items() if copy["node_name"] == gone.name)
    gone.kill()
    try:
        refused = asking.orca("exec", f"web.{number}", "--", "true")
    finally:
        gone.spawn("up")
    assert refused.code != 0
    assert f"{gone.name} ({copies[number]['node']}) does not answer" in refused.err
    assert "it was last heard of" in refused.err


def refusal(one: Machine, name: str) -> str:
    """Why Docker is not available on the node called `name`, as `one` says; empty when it is."""
    reply = one.json("status")
    nodes = [node["facts"] for node in reply["nodes"] if node["facts"]["name"] == name] if reply else []
    kinds = {kind["kind"]: kind for facts in nodes for kind in facts["runtimes"]}
    return "" if not kinds or kinds["docker"]["is_available"] else str(kinds["docker"]["reason"])


def test_a_node_that_is_killed_leaves_its_containers_which_serve_on(bed: Bed) -> None:
    found, client = bed
    one = found[1]
    others = [found[0], found[2]]
    before = containers(one)
    with constant_load(client.command(), urls(*others)) as load:
        pid = docker("ps", "-q", host=one.engine)
        one.kill()
        killed = time.monotonic()
        one.spawn("up")
        until(lambda: one.json("status"), "it is back", SETTLE_S)
        until(lambda: is_well(found[0]), "all copies are ready", SETTLE_S)
    assert load.failures(after=killed + ROUTED_AROUND_S) == []
    assert containers(one) == before
    assert docker("ps", "-q", host=one.engine) == pid, "the very same containers, adopted"


def test_the_leaders_computer_loses_its_power_and_users_hardly_notice(bed: Bed) -> None:
    found, client = bed
    lost = leader(found)
    left = [one for one in found if one is not lost]
    with constant_load(client.command(), urls(*left)) as load:
        lost.cut_power()
        cut = time.monotonic()
        until(lambda: is_well(left[0], without=lost.name), "all copies run on the others", MOVED_S)
        until(lambda: state_of(left[1], lost.name) == "failed", "it is told as failed", SETTLE_S)
        deploy(left[1], "three")  # a new leader takes decisions
    assert load.failures(after=cut + ROUTED_AROUND_S) == []
    lost.boot()
    lost.wait_engine()
    lost.spawn("up")
    names = sorted(one.name for one in found)
    for one in found:
        until(lambda one=one: alive(one) == names, f"{one.name} lists all", SETTLE_S)  # type: ignore[misc] # bound now
    until(lambda: is_well(found[0]), "as many copies as before", SETTLE_S)
    until(lambda: sum(containers(one) for one in found) == COPIES, "no container too many", SETTLE_S)
    assert lost.request("/web/") == "three\n"


def test_all_is_there_again_after_all_lost_their_power(bed: Bed) -> None:
    found, client = bed
    deploy(found[0], "four")
    for one in found:
        one.cut_power()
    for one in found:
        one.boot()
    for one in found:
        one.wait_engine()
        one.spawn("up")
    until(lambda: is_well(found[2]), "all copies are ready", SETTLE_S)
    with constant_load(client.command(), urls(*found)) as load:
        until(lambda: sum(containers(one) for one in found) == COPIES, "no container too many", SETTLE_S)
    assert load.failures() == []
    for one in found:
        assert one.request("/web/") == "four\n"


def test_a_deploy_goes_through_while_the_leader_is_paused(bed: Bed) -> None:
    found, client = bed
    paused = leader(found)
    left = [one for one in found if one is not paused]
    with constant_load(client.command(), urls(*left)) as load:
        paused.send(signal.SIGSTOP)
        began = time.monotonic()
        try:
            until(lambda: state_of(left[0], paused.name) == "failed", "it is told as failed", SETTLE_S)
            deploy(left[0], "five")
        finally:
            paused.send(signal.SIGCONT)
        until(lambda: all(is_well(one) for one in found), "all agree again", SETTLE_S)
        until(lambda: sum(containers(one) for one in found) == COPIES, "no container too many", SETTLE_S)
    assert load.failures(after=began + ROUTED_AROUND_S) == []
    for one in found:
        assert one.request("/web/") == "five\n"
