"""Workloads that fail: what a person is told, and what heals by itself."""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.images import WEB_IMAGE, docker
from tests.integration.node import Finished, Node, until
from tests.integration.services import container, worker
from tests.integration.traffic import constant_requests, failures

pytestmark = pytest.mark.docker


DEADLINE = '[service.deploy]\ndeadline = "10s"\n'
LINE = "0123456789" * 7
FLOOD_BYTES = 100 * 2**20
LOG_BYTES_MAX = 3 * 11 * 2**20
"""What Orca lets the engine keep of a container's output: three files of 10 MiB."""

HANG = (
    "mkdir -p /tmp/www/cgi-bin; printf '#!/bin/sh\\nexec sleep 1000\\n' > /tmp/www/cgi-bin/hang; "
    "chmod +x /tmp/www/cgi-bin/hang; exec httpd -f -p 8080 -h /tmp/www"
)
"""A web server that takes a request of this path and never answers it."""

REASONS: dict[str, tuple[str, str, int | None]] = {
    "noimage": (
        "backoff",
        r"image orca-test-missing:9 is not on this node, and the spec says never to pull it",
        None,
    ),
    "exits": ("backoff", r"exit code 9", 9),
    "nocommand": ("backoff", r"exit code 127", 127),
    "ported": ("backoff", r"Docker could not start \S+ \S+: host port 127\.0\.0\.1:PORT is in use on this node", None),
    "unhealthy": ("running", r"HTTP 404 from :8080/nothing-here", None),
    "unlistening": ("running", r"GET :8080/: Connection refused", None),
    "hanging": ("running", r"GET :8080/cgi-bin/hang did not answer within 2 s", None),
    "eater": ("backoff", r"out of memory \(exit code 137\)|exit code 137 \(SIGKILL\)", 137),
}
"""Phase, reason and exit code of each service that cannot become healthy.

Of one that is killed for want of memory a busy engine sometimes tells the end before the cause.
"""

BETWEEN_TRIES = {"preparing", "starting"}
"""Where a copy that is tried again and again may be seen, too; its reason stays."""


class Failed(NamedTuple):
    """One deploy of all the services that fail, of one that floods its log, and of a good one."""

    done: Finished
    port: int
    answers: list[str]


def bad_services(port: int) -> str:
    """All of `REASONS`, and `floods`, which is well."""
    return "".join(
        (
            worker("noimage", "true", more=DEADLINE).replace(WEB_IMAGE, "orca-test-missing:9"),
            worker("exits", "echo last words; exit 9", more=DEADLINE),
            worker("nocommand", "true", more=DEADLINE).replace('"sh", "-c"', '"/no/such"'),
            worker("ported", "sleep 1000", more=f'ports = ["127.0.0.1:{port}:8080"]\n{DEADLINE}'),
            container("unhealthy", more=f'health = "/nothing-here"\n{DEADLINE}'),
            container("unlistening", command="exec sleep 1000", more=f'health = "/"\n{DEADLINE}'),
            container("hanging", command=HANG, more=f'health = "/cgi-bin/hang"\n{DEADLINE}'),
            worker(
                "eater",
                "sleep 0.2; exec dd if=/dev/zero of=/dev/null bs=100000000 count=9",
                more=f'[service.resources]\nmemory = "16Mi"\n{DEADLINE}',
            ),
            worker("floods", f"yes {LINE} | head -c {FLOOD_BYTES}; exec sleep 1000"),
        )
    )


@pytest.fixture(scope="module")
def failed(node: Node) -> Iterator[Failed]:
    """All of them at once, while a good service is asked for all the time."""
    node.cli("deploy", node.file("good.toml", container("good"))).good()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = int(other.getsockname()[1])
        with constant_requests(node, "/good/") as answers:
            done = node.cli("--json", "deploy", node.file("bad.toml", bad_services(port)))
        yield Failed(done, port, answers)
    names = (*REASONS, "floods", "good")
    node.cli("rm", "-y", *names).good()
    until(lambda: not node.containers(every=True), "no container is left")


def test_failed_deploy_has_its_exit_code_and_names_what_failed(failed: Failed) -> None:
    assert failed.done.code == 1, str(failed.done)
    told = {one["service"] for one in failed.done.json()["wait"]["failures"]}
    assert told == {f"default/{name}" for name in REASONS}
    assert json.loads(failed.done.err)["error"]["code"] == "deploy_failed"


@pytest.mark.parametrize("name", sorted(REASONS))
def test_service_that_fails_has_its_phase_reason_and_exit_code(node: Node, failed: Failed, name: str) -> None:
    phase, pattern, exit_code = REASONS[name]
    pattern = pattern.replace("PORT", str(failed.port))
    failures = {one["service"]: one for one in failed.done.json()["wait"]["failures"]}
    failure = failures[f"default/{name}"]
    (copy,) = failure["unhealthy"]
    assert (copy["slot"], copy["exit_code"]) == (0, exit_code)
    assert copy["phase"] == phase or (phase == "backoff" and copy["phase"] in BETWEEN_TRIES)
    assert re.fullmatch(pattern, copy["reason"]), copy["reason"]
    told = rf"{name}\.1 is \w+ \({pattern}\)|does not stay up: ({pattern})"  # it may live long enough to be ready
    assert re.search(told, failure["message"]), failure["message"]
    assert failure["serving"] is None
    assert (copy["restarts"] > 0) == (phase == "backoff")

    def is_shown() -> bool:
        (shown,) = node.cli("--json", "ps", name).good().json()["allocations"]
        return re.fullmatch(pattern, shown["reason"]) is not None

    until(is_shown, f"`orca ps` shows {pattern}")  # while a copy runs again for a moment it has no reason
    events = node.events(service=f"default/{name}")
    assert any(re.search(pattern, one["message"]) for one in events), events
    assert events[-1]["severity"] != "info" or phase == "running"


def test_death_by_lack_of_memory_is_called_that(node: Node, failed: Failed) -> None:
    assert failed.done.code == 1

    def is_told() -> bool:
        events = node.events(service="default/eater")
        return any("ended: out of memory (exit code 137)" in one["message"] for one in events)

    until(is_told, "an event names memory")


def test_last_words_are_part_of_the_outcome(failed: Failed) -> None:
    outcome = failed.done.json()["wait"]
    lines = {one["service"]: outcome["logs"].get(one["unhealthy"][0]["id"], []) for one in outcome["failures"]}
    assert set(lines["default/exits"]) == {"last words"}
    assert "exec /no/such failed: No such file or directory" in lines["default/nocommand"][0]
    assert not any("records out" in line for line in lines["default/eater"])


def test_service_beside_those_that_fail_answers_every_request(failed: Failed) -> None:
    assert not failures(failed.answers)
    assert len(failed.answers) > 20


def test_container_that_prints_100_megabytes_is_well_and_its_log_bounded(node: Node, failed: Failed) -> None:
    (copy,) = node.wait_ready("default/floods")
    assert (copy["restarts"], copy["reason"]) == (0, "")
    (one,) = node.containers(service="default/floods")
    until(lambda: "sleep 1000" in docker("top", one), "everything is printed", 60)
    path = Path(docker("inspect", "--format", "{{.LogPath}}", one).strip())
    assert sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")) < LOG_BYTES_MAX
    records = [json.loads(line) for line in node.cli("--json", "logs", "floods", "-n", "3").good().out.splitlines()]
    assert {one["text"] for one in records[:2]} == {LINE}
    began = time.monotonic()
    assert node.through_proxy("/good/").status == 200
    assert time.monotonic() - began < 2


def heal(node: Node, name: str, hurt: str) -> None:
    """Deploy, hurt and wait for the copy to be another run that is ready."""
    node.cli("deploy", node.file("service.toml", container(name, say=name))).good()
    (before,) = node.started_at(service=f"default/{name}").items()
    if hurt == "exit":
        docker("exec", before[0], "kill", "-TERM", "1")
        docker("kill", "--signal", "TERM", before[0])
    else:
        docker(*hurt.split(), before[0])

    def healed() -> bool:
        now = node.started_at(service=f"default/{name}")
        return len(now) == 1 and before not in now.items() and node.through_proxy(f"/{name}/").status == 200

    until(healed, f"healed after {hurt}")


@pytest.mark.parametrize("hurt", ["kill", "rm -f", "stop -t 0"])
def test_container_that_is_hurt_by_hand_heals(node: Node, hurt: str) -> None:
    name = f"hurt-{hurt.split(maxsplit=1)[0]}"
    heal(node, name, hurt)
    assert len(node.containers(service=f"default/{name}", every=True)) == 1
    node.cli("rm", "-y", name).good()


def test_service_that_ends_with_exit_code_0_is_started_again(node: Node) -> None:
    node.cli("deploy", "-d", node.file("service.toml", worker("brief", "sleep 1.5"))).good()
    until(lambda: any(one["restarts"] >= 1 for one in node.copies("default/brief")), "it was started again")

    def exits() -> list[int]:
        events = node.events(service="default/brief")
        return [one.get("exit_code", 0) for one in events if one["kind"] == "allocation.exited"]

    until(lambda: exits()[:1] == [0], "its end with exit code 0 is told")
    node.cli("rm", "-y", "brief").good()
