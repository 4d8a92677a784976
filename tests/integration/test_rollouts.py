"""Canaries, blue and green, pauses and the way back, on a node whose service is asked all the while."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.integration.node import Finished, Node
from tests.integration.services import HELLO_WAT
from tests.integration.traffic import constant_requests, failures

BROKEN_WAT = '(module (memory (export "memory") 1) (func (export "_start") unreachable))'
OTHER_WAT = HELLO_WAT.replace("nmodule", "nsecond")
REPLICAS = 3


@pytest.fixture
def node(wasm_node: Node) -> Iterator[Node]:
    """A node whose service `web` answers `module`."""
    deploy(wasm_node, "first", "").good()
    wasm_node.wait_ready("default/web", REPLICAS)
    yield wasm_node
    wasm_node.cli("rm", "--yes", "web").good()


def deploy(node: Node, which: str, more: str, *words: str) -> Finished:
    text = {"first": HELLO_WAT, "second": OTHER_WAT, "broken": BROKEN_WAT}[which]
    node.file(f"{which}.wat", text)
    spec = f"""
[[service]]
name = "web"
runtime = "wasm"
module = "{which}.wat"
port = 80
path = "/web"
health = "/web"
replicas = {REPLICAS}
{more}
"""
    return node.cli("deploy", node.file("web.toml", spec), *words)


def shares(node: Node, count: int = 100) -> Counter[str]:
    """What so many requests in a row were answered with."""
    return Counter(node.through_proxy("/web").text.strip() for _ in range(count))


def test_a_canary_takes_exactly_its_share_until_it_is_promoted(node: Node) -> None:
    with constant_requests(node, "/web") as answers:
        done = deploy(node, "second", '[service.deploy]\nstrategy = "canary"\ncanary_percent = 20\n').good()
        assert "`orca promote web` goes on" in done.out
        assert node.service("default/web")["rollout"]["state"] == "awaiting"
        assert "awaiting" in node.cli("status").good().out
    assert not failures(answers)
    assert shares(node) == {"module": 80, "second": 20}
    with constant_requests(node, "/web") as answers:
        node.cli("promote", "web").good()
    assert not failures(answers)
    assert shares(node, 20) == {"second": 20}
    assert node.cli("promote", "web").code == 4
    kinds = [one["kind"] for one in node.events(service="default/web")]
    assert kinds.index("rollout.awaiting") < kinds.index("rollout.promoted")


def test_green_takes_no_request_until_it_is_promoted_and_the_way_back_is_short(node: Node) -> None:
    with constant_requests(node, "/web") as answers:
        deploy(node, "second", '[service.deploy]\nstrategy = "blue-green"\nkeep_old = "10m"\n').good()
        assert shares(node, 20) == {"module": 20}
        node.cli("promote", "web").good()
        assert shares(node, 20) == {"second": 20}
        node.cli("rollback", "web").good()
        assert shares(node, 20) == {"module": 20}
    assert not failures(answers)
    node.wait_ready("default/web", REPLICAS)


def test_what_never_gets_healthy_is_rolled_back_by_itself_and_the_deploy_says_so(node: Node) -> None:
    with constant_requests(node, "/web") as answers:
        done = deploy(node, "broken", '[service.deploy]\nauto_rollback = true\ndeadline = "4s"\n')
        assert done.code != 0
        assert "back to revision" in done.out + done.err
        view = node.wait_rollout("default/web", "completed")
    assert not failures(answers)
    assert set(answers) == {"module"}
    assert view["rollout"]["is_way_back"]
    assert "automatic rollback" in node.cli("history", "web").good().out


def test_a_rollout_that_is_paused_stays_where_it_is(node: Node) -> None:
    deploy(node, "second", '[service.deploy]\nmin_healthy_time = "2s"\n', "--detach").good()
    node.cli("pause", "web").good()
    assert "paused" in node.cli("status").good().out
    assert {one["revision"] for one in node.copies("default/web")} != {node.service("default/web")["revision"]}
    node.cli("resume", "web").good()
    assert shares(node, 20) == {"second": 20}
    refused = node.cli("pause", "web")
    assert "has no rollout to pause" in refused.err
