"""`kill -9` of the node at any moment of a deploy: nothing doubled, nothing lost, nothing restarted."""

import json
from collections.abc import Iterator

import pytest

from tests.images import docker, ensure_image
from tests.integration.node import Node, fetch, pause, running_node, until
from tests.integration.services import HELLO_WAT, container, module, worker
from tests.node.runtime.wasm.guests import exiting

MOMENTS_S = (0.0, 0.03, 0.08, 0.15, 0.3, 0.6)
"""Between the answer to a deploy and the death: before, between and after its container starts."""


@pytest.fixture(scope="module")
def crashing_node() -> Iterator[Node]:
    ensure_image()
    with running_node() as made:
        made.file("hello.wat", HELLO_WAT)
        made.cli("deploy", made.file("service.toml", container(replicas=3) + module(replicas=2))).good()
        yield made


@pytest.mark.docker
@pytest.mark.parametrize("moment_s", MOMENTS_S)
def test_killed_node_finishes_its_deploy_after_the_restart(crashing_node: Node, moment_s: float) -> None:
    node = crashing_node
    say = f"after-{moment_s}"
    before = node.service("default/web")["revision"]
    reply = node.deploy_text(container(say=say, replicas=3))
    assert reply.status == 202, reply.text
    pause(moment_s)
    node.kill()
    node.start()
    view = until(
        lambda: _settled(node, before + 1),
        "the rollout is completed",
    )
    assert view["ready"] == 3
    assert {node.through_proxy("/web/").text for _ in range(6)} == {f"{say}\n"}
    assert node.through_proxy("/hello").text == "module\n"
    until(lambda: len(node.containers(every=True)) == 3, "exactly the replicas have containers")
    slots = [
        docker("inspect", "--format", '{{index .Config.Labels "orca.allocation"}}', one) for one in node.containers()
    ]
    assert len(set(slots)) == 3


def _settled(node: Node, revision: int) -> dict[str, object] | None:
    view: dict[str, object] = node.service("default/web")
    rollout = view["rollout"]
    assert isinstance(rollout, dict)
    assert view["revision"] == revision
    return view if rollout["state"] == "completed" and view["ready"] == 3 else None


@pytest.mark.docker
def test_containers_run_on_without_the_node_and_are_taken_over_as_they_are(crashing_node: Node) -> None:
    node = crashing_node
    before = node.started_at()
    assert len(before) == 3
    node.kill()
    assert node.started_at() == before
    node.start()
    node.wait_ready("default/web", 3)
    assert node.started_at() == before
    adopted = [one for one in node.events() if one["kind"] == "allocation.adopted"]
    assert {one["service"] for one in adopted} == {"default/web"}
    assert [one["restarts"] for one in node.copies("default/web")] == [0, 0, 0]


@pytest.mark.docker
def test_copy_that_died_while_the_node_was_down_is_started_again(crashing_node: Node) -> None:
    node = crashing_node
    killed, removed, kept = node.containers()
    node.kill()
    docker("kill", killed)
    docker("rm", "-f", removed)
    node.start()
    until(lambda: len(node.containers()) == 3, "three containers run")
    node.wait_ready("default/web", 3)
    assert kept in node.containers()
    assert len(node.containers(every=True)) == 3


@pytest.mark.docker
def test_node_that_is_told_to_stop_leaves_containers_running(crashing_node: Node) -> None:
    node = crashing_node
    before = node.started_at()
    assert node.stop() == 0
    assert node.started_at() == before
    node.start()
    node.wait_ready("default/web", 3)
    assert node.started_at() == before


def test_killed_node_without_docker_has_all_it_accepted(wasm_node: Node) -> None:
    """Accepted is what was answered with 202, at whatever moment the node died."""
    node = wasm_node
    node.file("hello.wat", HELLO_WAT)
    node.cli("deploy", node.file("service.toml", module(replicas=2))).good()
    revision = 1
    for number, moment_s in enumerate((0.0, 0.01, 0.05)):
        reply = node.post("/v1/services/default/hello/scale", {"replicas": 3 + number})
        assert reply.status in {200, 202}, reply.text
        pause(moment_s)
        node.kill()
        node.start()
        view = node.service("default/hello")
        assert view["replicas"] == 3 + number
        assert view["revision"] >= revision
        revision = view["revision"]
        node.wait_ready("default/hello", 3 + number)
    assert node.through_proxy("/hello").text == "module\n"


def test_job_that_has_run_is_not_run_again_after_a_restart(wasm_node: Node) -> None:
    node = wasm_node
    node.file("job.wat", exiting(0))
    job = '[[service]]\nname = "job"\nruntime = "wasm"\nmodule = "job.wat"\nrestart = "never"\n'
    node.cli("deploy", node.file("job.toml", job)).good()

    def ended() -> bool:
        return [one["phase"] for one in node.copies("default/job")] == ["completed"]

    until(ended, "the job is completed")
    node.kill()
    node.start()
    until(ended, "the job still counts as completed")
    completed = [one for one in node.events(service="default/job") if one["kind"] == "allocation.completed"]
    assert len(completed) == 1


@pytest.mark.docker
def test_container_job_is_not_run_again_after_a_restart(crashing_node: Node) -> None:
    node = crashing_node
    text = worker("job", "echo ran once", more='restart = "never"')
    node.cli("deploy", node.file("job.toml", text)).good()
    until(lambda: [one["phase"] for one in node.copies("default/job")] == ["completed"], "the job is completed")
    node.kill()
    node.start()
    node.wait_ready("default/web", 3)
    assert [one["phase"] for one in node.copies("default/job")] == ["completed"]
    completed = [one for one in node.events(service="default/job") if one["kind"] == "allocation.completed"]
    assert len(completed) == 1
    lines = node.cli("--json", "logs", "job").good().out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["ran once"]


def test_request_id_makes_a_retry_after_a_crash_safe(wasm_node: Node) -> None:
    node = wasm_node
    node.file("hello.wat", HELLO_WAT)
    node.cli("deploy", node.file("service.toml", module(replicas=2))).good()
    body = {"replicas": 1, "request_id": "same-request-1"}
    first = node.post("/v1/services/default/hello/scale", body).json()["changes"]
    node.kill()
    node.start()
    again = node.post("/v1/services/default/hello/scale", body)
    assert again.json()["changes"] == first, again.text
    revisions = node.get("/v1/services/default/hello/history").json()["revisions"]
    assert [one["cause"] for one in revisions].count("scale 2 to 1") == 1
    assert fetch(node.api, "GET", "/healthz").status == 200
