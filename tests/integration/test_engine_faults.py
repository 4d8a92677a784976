"""The engine stops, hangs and comes back under a running node."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.images import ensure_image
from tests.integration.node import Node, running_node, until
from tests.integration.services import HELLO_WAT, module, worker
from tests.node.runtime.test_docker_engine import OwnEngine, needs_own_engine, own_engine

DETECTION_S = 12.0
"""The promised 5 s, and what a busy computer may add."""

pytestmark = [pytest.mark.docker, needs_own_engine]


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with tempfile.TemporaryDirectory(prefix="orca-", ignore_cleanup_errors=True) as made, own_engine(Path(made)) as one:
        ensure_image(host=f"unix://{one.socket}")
        yield one


@pytest.fixture(scope="module")
def node_of(engine: OwnEngine) -> Iterator[Node]:
    url = f"unix://{engine.socket}"
    with running_node(config=f'docker_url = "{url}"\n', engine=url) as node:
        node.file("hello.wat", HELLO_WAT)
        text = worker("steady", "sleep 1000", replicas=2) + module()
        node.cli("deploy", node.file("service.toml", text)).good()
        yield node


def docker_of(node: Node) -> Any:
    """What the node's status says of Docker."""
    (view,) = node.get("/v1/status").json()["nodes"]
    (found,) = [one for one in view["facts"]["runtimes"] if one["kind"] == "docker"]
    return found


def assert_others_go_on(node: Node) -> None:
    for path in ("status", "services", "allocations", "node"):
        began = time.monotonic()
        assert node.get(f"/v1/{path}").status == 200
        assert time.monotonic() - began < 2
    assert node.through_proxy("/hello").text == "module\n"


def assert_new_work_is_refused(node: Node, name: str) -> None:
    done = node.cli("deploy", "--timeout", "2s", node.file("more.toml", worker(name, "sleep 1000")))
    assert done.code != 0, str(done)
    blocked = node.service(f"default/{name}")
    assert "docker" in str(blocked).lower()
    told = blocked["blocked"] or " ".join(one["reason"] for one in blocked["allocations"])
    assert "docker" in told.lower(), blocked


def test_stopped_engine_is_said_and_comes_back(engine: OwnEngine, node_of: Node) -> None:
    node, url = node_of, f"unix://{engine.socket}"
    engine.stop()
    until(lambda: not docker_of(node)["is_available"], "status says that Docker is away", DETECTION_S)
    assert docker_of(node)["reason"]
    assert "docker" in node.cli("status").good().out.lower()
    assert_others_go_on(node)
    assert_new_work_is_refused(node, "later")
    engine.start()
    until(lambda: docker_of(node)["is_available"], "status says that Docker is back")
    node.wait_ready("default/steady", 2)
    node.wait_ready("default/later", 1)
    until(lambda: len(node.containers(host=url, every=True)) == 3, "nothing is doubled")
    kinds = [one["kind"] for one in node.events()]
    assert "runtime.down" in kinds
    assert kinds.count("runtime.up") >= 2


def test_hung_engine_is_found_out_and_blocks_nobody(engine: OwnEngine, node_of: Node) -> None:
    node = node_of
    node.wait_ready("default/steady", 2)
    engine.freeze()
    try:
        until(lambda: not docker_of(node)["is_available"], "status says that Docker hangs", DETECTION_S)
        assert_others_go_on(node)
        node.cli("scale", "hello=2").good()
    finally:
        engine.thaw()
    until(lambda: docker_of(node)["is_available"], "status says that Docker answers again")
    node.wait_ready("default/steady", 2)
