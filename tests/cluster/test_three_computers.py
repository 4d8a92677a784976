"""Three computers, `orca up`, a token, `orca join` twice: then every command on every node, with one of them dead, and
one that was removed locked out."""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.computers import SETTLE_S, Computer, alive, join_all, state_of, voters
from tests.cluster.namespaces import hosts, need_namespaces
from tests.integration.node import until
from tests.integration.services import HELLO_WAT

pytestmark = [pytest.mark.integration, pytest.mark.slow]
SERVICE = """[[service]]
name = "hello"
runtime = "wasm"
module = "hello.wat"
port = 80
path = "/hello"
replicas = 3
[service.placement]
spread = "zone"
"""
LOCKED_OUT_S = 5.0
"""What is promised; the nodes are asked by their sockets, so that nothing but the nodes takes time."""


@pytest.fixture(scope="module")
def computers() -> Iterator[Sequence[Computer]]:
    need_namespaces()
    with hosts(3) as places, tempfile.TemporaryDirectory(prefix="orca-three-", ignore_cleanup_errors=True) as made:
        found = []
        for number, host in enumerate(places, 1):
            directory = Path(made) / f"n{number}"
            directory.mkdir()
            found.append(Computer(host, directory, f"n{number}"))
        try:
            join_all(found)
            yield found
        except BaseException:
            for one in found:
                print(f"---- log of {one.name}\n{one.log[-4000:]}")  # noqa: T201
            raise
        finally:
            for one in found:
                if one.process is not None and one.process.poll() is None:
                    one.kill()


def copies(one: Computer) -> list[Any]:
    reply = one.json("ps", "hello")
    return [] if reply is None else [copy for copy in reply["allocations"] if copy["desired"] == "running"]


def ready(one: Computer, count: int) -> bool:
    found = copies(one)
    return len(found) == count and all(copy["is_ready"] for copy in found)


def test_every_command_of_the_tour_gives_the_same_on_every_node(computers: Sequence[Computer]) -> None:
    first = computers[0]
    (first.directory / "hello.wat").write_text(HELLO_WAT)
    path = first.directory / "service.toml"
    path.write_text(SERVICE)
    for one in computers:
        assert one.orca("plan", str(path)).code == 0
    computers[1].orca("deploy", str(path)).good()
    for one in computers:
        until(lambda one=one: ready(one, 3), f"{one.name} sees three ready copies", SETTLE_S)  # type: ignore[misc] # bound now
        assert len({copy["node"] for copy in copies(one)}) == 3
        assert one.request("/hello") == "module\n"
    for number, one in enumerate(computers):
        one.orca("scale", f"hello={4 + number}").good()
        other = computers[(number + 1) % 3]
        until(lambda other=other, count=4 + number: ready(other, count), "the new number everywhere", SETTLE_S)  # type: ignore[misc] # bound now
        one.orca("restart", "hello").good()
    same = [("status",), ("history", "hello"), ("ps", "hello"), ("stats",), ("logs", "hello"), ("quorum",), ("nodes",)]
    for words in same:
        for one in computers:
            assert one.orca(*words).code == 0, words
    histories = [one.json("history", "hello")["revisions"] for one in computers]
    assert histories[0] == histories[1] == histories[2]
    statuses = [one.json("status") for one in computers]
    assert len({status["leader"] for status in statuses}) == 1
    assert {status["observation"]["observer"] for status in statuses} == {
        n["facts"]["id"] for n in statuses[0]["nodes"]
    }
    for words in (("rollback", "hello", "--to", "1"), ("stop", "hello"), ("start", "hello")):
        computers[2].orca(*words).good()
    until(lambda: ready(first, 3), "as deployed", SETTLE_S)


def test_each_node_serves_a_copy_that_runs_on_another_one(computers: Sequence[Computer]) -> None:
    first = computers[0]
    path = first.directory / "one.toml"
    path.write_text(
        SERVICE.replace('"hello"', '"lone"').replace("/hello", "/lone").replace("replicas = 3", "replicas = 1")
    )
    first.orca("deploy", str(path)).good()
    for one in computers:
        answers = {one.request("/lone") for _ in range(5)}
        assert answers == {"module\n"}, f"{one.name}: {answers}"
    computers[2].orca("rm", "-y", "lone").good()


def test_the_doctor_finds_all_links_open_and_a_closed_one_with_its_line(computers: Sequence[Computer]) -> None:
    first, second, third = computers
    reply = json.loads(third.orca("doctor", "--json").out)
    assert [one for one in reply["findings"] if one["severity"] == "error"] == []
    assert all(len(one["report"]["links"]) == 6 for one in reply["nodes"])
    second.host.refuse("-s", first.host.address, "-p", "udp", "--dport", "7946")
    try:
        done = third.orca("doctor")
    finally:
        second.host.accept_all()
    assert done.code == 1
    assert "n1 does not reach n2 by gossip (UDP)" in done.out
    assert "one way only" in done.out
    assert "on n2: `iptables -I INPUT -p udp --dport 7946 -j ACCEPT`" in done.out


def test_commands_work_on_the_others_while_one_is_dead_and_its_parts_have_an_age(computers: Sequence[Computer]) -> None:
    first, second, third = computers
    third.kill()
    for one in (first, second):
        until(lambda one=one: state_of(one, "n3") == "failed", "the dead node is found", SETTLE_S)  # type: ignore[misc] # bound now
    for one in (first, second):
        (gone,) = [member for member in one.json("nodes")["members"] if member["name"] == "n3"]
        assert gone["state"] == "failed"
        assert gone["state_age_ms"] >= 0
        began = time.monotonic()
        one.orca("logs", "hello")
        one.orca("stats").good()
        one.orca("status").good()
        assert time.monotonic() - began < 60
        doctor = one.orca("doctor")
        assert "n3" in doctor.out
        assert "none, heard" in doctor.out
        one.orca("restart", "hello", "--detach").good()
        assert one.request("/hello") == "module\n"
    third.spawn("up")
    until(lambda: alive(third) == ["n1", "n2", "n3"], "it is back as who it was", SETTLE_S)
    until(lambda: ready(first, 3), "all copies are ready again", SETTLE_S)


def test_a_removed_node_is_locked_out_everywhere_within_seconds(computers: Sequence[Computer]) -> None:
    first, second, third = computers
    until(lambda: voters(first) == ["n1", "n2", "n3"], "three vote", SETTLE_S)
    began = time.monotonic()
    second.orca("nodes", "rm", "n3", "--force").good()
    left_s = LOCKED_OUT_S - (time.monotonic() - began)
    until(lambda: all(is_out(one, "n3") for one in (first, second)), "n3 is locked out", left_s)
    assert {state_of(one, "n3") for one in (first, second)} == {"removed"}, "whatever gossip still believes"
    refused = third.orca("restart", "hello", "--detach")
    assert refused.code != 0, refused
    third.kill()
    third.spawn("up")  # it does not know; nobody lets it in
    until(lambda: third.orca("status").code == 0, "it runs what it has, alone", SETTLE_S)
    assert third.orca("restart", "hello", "--detach").code != 0
    assert all(is_out(one, "n3") for one in (first, second))
    until(lambda: ready(first, 3), "the others run all copies", SETTLE_S)


def is_out(one: Computer, name: str) -> bool:
    """Whether `one` counts `name` neither among the living nor among the nodes and the voters."""
    nodes = [node["facts"]["name"] for node in one.ask("/v1/status")["nodes"]]
    living = [member["name"] for member in one.ask("/v1/nodes")["members"] if member["state"] != "removed"]
    group = [member["name"] for member in one.ask("/v1/quorum")["members"]]
    return name not in (*nodes, *living, *group)
