"""The engine stops, hangs and comes back under a running node."""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.images import docker, ensure_image
from tests.integration.node import Node, running_node, until
from tests.integration.services import HELLO_WAT, module, worker
from tests.integration.traffic import constant_requests
from tests.node.runtime.test_docker_engine import OwnEngine, needs_own_engine, own_engine

DETECTION_S = 6.0
"""The promised 5 s, and one for our own looking and for processes to be scheduled."""

LOAD_FACTOR_MAX = 2.0
"""A computer on which more is runnable than it has cores gets so many times as long, in proportion, twice at most."""

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


def patience_s() -> float:
    """How long detection may take now."""
    runnable = os.getloadavg()[0] / (os.cpu_count() or 1)
    return DETECTION_S * min(max(runnable, 1.0), LOAD_FACTOR_MAX)


def assert_found_out(node: Node, began: float) -> None:
    """Wait until the node knows that its engine is away, and assert how long after `began` that was."""
    until(lambda: not docker_of(node)["is_available"], "status says that Docker is away")
    took_s = time.monotonic() - began
    assert took_s <= patience_s(), f"it took {took_s:.1f} s, with a load of {os.getloadavg()[0]}"


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


def assert_refused_at_once(node: Node) -> None:
    """What needs the engine says that it is away, and keeps nobody waiting for it."""
    began = time.monotonic()
    refused = node.cli("--json", "exec", "steady.1", "--", "true")
    assert refused.code == 5, str(refused)
    assert json.loads(refused.err)["error"]["code"] == "runtime_unavailable"
    logs = node.cli("logs", "steady").good().out
    assert logs.count("its output cannot be read: Docker is not available") == 2
    (stats, _) = node.get("/v1/stats?service=default/steady").json()["stats"]
    assert "not available" in stats["problem"]
    node.cli("deploy", "-d", "-", stdin=worker("waits", "sleep 1000").encode()).good()
    node.cli("rm", "-d", "-y", "waits").good()
    assert time.monotonic() - began < 2 * patience_s()


def runs(node: Node, engine: OwnEngine) -> dict[str, str]:
    """When each running container of the node was started."""
    url = f"unix://{engine.socket}"
    form = "{{.State.StartedAt}} {{.State.Pid}}"
    return {one: docker("inspect", "--format", form, one, host=url) for one in node.containers(host=url)}


def test_stopped_engine_is_said_and_comes_back(engine: OwnEngine, node_of: Node) -> None:
    node, url = node_of, f"unix://{engine.socket}"
    with constant_requests(node, "/hello") as answers:
        engine.stop()
        assert_found_out(node, time.monotonic())
    assert set(answers) == {"module"}
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
    before = runs(node, engine)
    restarts = [one["restarts"] for one in node.wait_ready("default/steady", 2)]
    assert len(before) >= 2
    last = node.events()[-1]["sequence"]
    with constant_requests(node, "/hello") as answers:
        engine.freeze()
        try:
            assert_found_out(node, time.monotonic())
            assert "within" in docker_of(node)["reason"]
            assert_others_go_on(node)
            assert_refused_at_once(node)
            node.cli("scale", "hello=2").good()
            assert [one["phase"] for one in node.copies("default/steady")] == ["running", "running"]
        finally:
            engine.thaw()
        until(lambda: docker_of(node)["is_available"], "status says that Docker answers again")
        node.wait_ready("default/steady", 2)
    assert set(answers) == {"module"}
    assert runs(node, engine) == before, "what ran all the time was taken over as it is"
    assert [one["restarts"] for one in node.copies("default/steady")] == restarts
    kinds = [one["kind"] for one in node.events(after=str(last)) if one.get("service") != "default/hello"]
    assert [kind for kind in kinds if kind.startswith("runtime.")] == ["runtime.down", "runtime.up"]
    assert not {"allocation.exited", "allocation.restarting", "allocation.started"} & set(kinds)
