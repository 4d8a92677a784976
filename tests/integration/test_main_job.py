"""The main job: deploy, serve, update, fail, go back; by the command line and by HTTP."""

import json
import subprocess
import sys
import threading

import pytest

from tests.integration.node import Node, until
from tests.integration.services import HELLO_WAT, container, module
from tests.integration.traffic import constant_requests, failures

pytestmark = pytest.mark.docker


def test_module_and_container_answer_through_the_proxy(node: Node) -> None:
    node.file("hello.wat", HELLO_WAT)
    path = node.file("service.toml", container(replicas=2) + module())
    done = node.cli("deploy", path).good()
    assert "web" in done.out + done.err
    assert node.through_proxy("/web/").text == "one\n"
    assert node.through_proxy("/hello").text == "module\n"
    assert len(node.containers()) == 2


def test_deploy_of_the_same_file_changes_nothing(node: Node) -> None:
    before = node.started_at()
    done = node.cli("--json", "deploy", str(node.directory / "service.toml")).good()
    json.loads(done.out)
    assert node.service("default/web")["revision"] == 1
    assert node.started_at() == before


def test_update_under_load_fails_no_request_and_leaves_no_old_copy(node: Node) -> None:
    path = node.file("service.toml", container(say="two", replicas=2) + module())
    old = set(node.containers())
    with constant_requests(node, "/web/") as answers:
        until(lambda: len(answers) > 20, "requests are answered")
        node.cli("deploy", path).good()
        count = len(answers)
        until(lambda: len(answers) > count + 20, "requests are answered after the update")
    assert not failures(answers)
    assert {"one", "two"} == set(answers)
    assert answers[-1] == "two"
    until(lambda: not old & set(node.containers(every=True)), "the old containers are gone")
    assert len(node.containers(service="default/web")) == 2


def test_failed_update_says_what_died_and_the_old_revision_serves_on(node: Node) -> None:
    bad = container(
        replicas=2, command="echo this is the reason >&2; exit 7", more='[service.deploy]\ndeadline = "20s"'
    )
    with constant_requests(node, "/web/") as answers:
        done = node.cli("deploy", node.file("bad.toml", bad + module()))
    assert done.code == 1, str(done)
    told = done.out + done.err
    assert "web.1" in told
    assert "exit code 7" in told
    assert "this is the reason" in told
    assert not failures(answers)
    assert set(answers) == {"two"}
    assert node.service("default/web")["rollout"]["state"] == "failed"


def test_health_path_that_never_answers_fails_the_deploy_in_its_deadline(node: Node) -> None:
    more = 'health = "/nothing-here"\n[service.deploy]\ndeadline = "8s"\n'
    with constant_requests(node, "/web/") as answers:
        done = node.cli("deploy", node.file("bad.toml", container(say="three", replicas=2, more=more) + module()))
    assert done.code == 1, str(done)
    assert "404" in done.out + done.err
    assert not failures(answers)
    assert set(answers) == {"two"}


def test_rollback_makes_the_last_good_revision_the_newest(node: Node) -> None:
    last = node.service("default/web")["revision"]
    node.cli("rollback", "web", "--to", "2").good()
    assert node.through_proxy("/web/").text == "two\n"
    newest = node.service("default/web")
    assert newest["rollout"]["state"] == "completed"
    history = node.cli("--json", "history", "web").good().json()
    assert [one["revision"] for one in history["revisions"]] == list(range(last + 1, 0, -1))
    assert node.get("/v1/services/default/web/history").json()["revisions"][0]["is_current"] is True
    until(lambda: len(node.containers(service="default/web", every=True)) == 2, "failed copies are gone")


def test_plan_shows_the_difference_and_changes_nothing(node: Node) -> None:
    before, revision = node.started_at(), node.service("default/web")["revision"]
    path = node.file("service.toml", container(say="four", replicas=3) + module())
    plan = node.cli("--json", "plan", path).good().json()
    (web,) = [one for one in plan["services"] if one["service"] == "default/web"]
    assert web["action"] == "update"
    assert {"replicas"} <= {one["key"] for one in web["fields"]}
    assert "replicas" in node.cli("plan", path).good().out
    assert node.cli("plan", "--exit-code", path).code == 10
    assert node.service("default/web")["revision"] == revision
    assert node.started_at() == before


def test_scale_stop_start_restart(node: Node) -> None:
    one = node.started_at(service="default/web")
    node.cli("scale", "web=3").good()
    assert len(node.containers(service="default/web")) == 3
    assert one.items() <= node.started_at(service="default/web").items()
    node.cli("scale", "web=1").good()
    until(lambda: len(node.containers(service="default/web")) == 1, "one container is left")
    node.cli("stop", "web").good()
    until(lambda: not node.containers(service="default/web"), "no container is left")
    assert node.through_proxy("/web/").status == 503
    node.cli("start", "web").good()
    assert node.through_proxy("/web/").text == "two\n"
    before = set(node.containers(service="default/web"))
    with constant_requests(node, "/web/") as answers:
        node.cli("restart", "web").good()
    assert not failures(answers)
    until(lambda: not before & set(node.containers(service="default/web")), "the copy was replaced")


@pytest.mark.parametrize("verb", ["status", "ps", "stats", "events", "version"])
def test_reading_verbs_answer_people_and_programs(node: Node, verb: str) -> None:
    assert node.cli(verb).good().out
    assert node.cli("--json", verb).good().json()


def test_every_reading_path_answers_json(node: Node) -> None:
    paths = ["status", "node", "services", "services/default/web", "allocations", "events", "stats", "openapi.json"]
    for path in paths:
        reply = node.get(f"/v1/{path}")
        assert reply.status == 200, path
        assert reply.json(), path
    assert "<html" in node.get("/").text.lower()


def test_exec_runs_in_the_copy_with_and_without_a_dash(node: Node) -> None:
    assert node.cli("exec", "web.1", "echo", "hi").good().out == "hi\n"
    assert node.cli("exec", "web.1", "--", "echo", "hi").good().out == "hi\n"
    assert node.cli("exec", "web", "--", "sh", "-c", "exit 3").code == 3
    assert node.cli("exec", "-i", "web", "--", "cat", stdin=b"through").good().out == "through"


def test_logs_of_all_copies_and_new_lines_as_they_come(node: Node) -> None:
    (copy,) = node.wait_ready("default/web")
    node.cli("exec", "web.1", "--", "sh", "-c", "echo first > /proc/1/fd/1").good()
    until(lambda: "first" in node.cli("logs", "web").good().out, "the line is in the logs")
    records = [json.loads(line) for line in node.cli("--json", "logs", "web", "-n", "1").good().out.splitlines()]
    assert [(one["text"], one["allocation"]) for one in records] == [("first", copy["id"])]
    command = [sys.executable, "-m", "orca", "logs", "-f", "-n", "0", "web"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=node.environ()) as follower:
        assert follower.stdout is not None
        lines: list[bytes] = []
        reader = threading.Thread(target=lines.extend, args=[iter(follower.stdout.readline, b"")])
        reader.start()
        number = 0

        def say_more() -> bool:
            nonlocal number
            number += 1
            node.cli("exec", "web.1", "--", "sh", "-c", f"echo next {number} > /proc/1/fd/1").good()
            return number > 2

        until(say_more, "three lines were written")
        follower.terminate()
        reader.join(10)
    assert any(b"next" in line for line in lines)


def test_same_change_by_plain_http(node: Node) -> None:
    assert node.post("/v1/services/default/web/scale", {"replicas": 2}).status in {200, 202}
    node.wait_ready("default/web", 2)
    assert node.deploy_text(container("curled", say="by curl")).status == 202
    node.wait_ready("default/curled")
    assert node.through_proxy("/curled/").text == "by curl\n"


def test_removed_service_is_gone_with_its_containers(node: Node) -> None:
    node.cli("rm", "-y", "web", "curled", "hello").good()
    until(lambda: not node.containers(every=True), "no container is left")
    assert node.through_proxy("/web/").status == 404
    assert node.get("/v1/services/default/web").status == 404
    assert node.cli("history", "web").code == 3
