"""One-off commands on a real node: output, exit code, what Ctrl-C does, and what stays."""

import json
import signal
import subprocess
import sys

import pytest

from tests.images import WEB_IMAGE
from tests.integration.node import ROOT, Node, until
from tests.integration.services import worker

pytestmark = pytest.mark.docker


def names(node: Node) -> list[str]:
    return [one["id"] for one in node.get("/v1/services").json()["services"]]


def test_a_command_runs_in_an_image_and_hands_its_output_and_exit_code_through(node: Node) -> None:
    done = node.cli("run", "-e", "WHO=me", WEB_IMAGE, "--", "sh", "-c", "echo hello $WHO; echo oops >&2; exit 7")
    assert done.code == 7, f"{done}"
    assert done.out == "hello me\n"
    assert "oops\n" in done.err
    assert names(node) == []
    assert node.cli("run", WEB_IMAGE, "true").good().out == ""


def test_every_line_comes_once_and_in_order_also_the_last_ones(node: Node) -> None:
    done = node.cli("run", WEB_IMAGE, "--", "sh", "-c", "for i in $(seq 3000); do echo $i; done; sleep 1; echo end")
    assert done.good().out.split() == [*map(str, range(1, 3001)), "end"]
    pieces = node.cli("--json", "run", WEB_IMAGE, "--", "echo", "once").good().out.splitlines()
    assert list(map(json.loads, pieces)) == [{"stream": "stdout", "text": "once\n"}, {"exit_code": 0}]


def test_a_run_of_a_service_has_its_variables_and_leaves_it_alone(node: Node) -> None:
    spec = worker("lender", "exec sleep 1000", more='[service.env]\nLENT = "yes"')
    node.cli("deploy", node.file("lender.toml", spec)).good()
    assert node.cli("run", "lender", "--", "sh", "-c", "echo $LENT").good().out == "yes\n"
    assert node.service("default/lender")["ready"] == 1
    node.cli("rm", "lender", "--yes").good()


def test_what_cannot_run_says_why_and_is_removed(node: Node) -> None:
    done = node.cli("run", WEB_IMAGE, "--", "/no/such/program")
    assert done.code != 0
    assert "/no/such/program" in done.err
    assert names(node) == []


def test_a_detached_run_stays_to_be_looked_at(node: Node) -> None:
    name = node.cli("run", "-d", WEB_IMAGE, "--", "echo", "from afar").good().out.strip()
    until(lambda: node.service(f"default/{name}")["allocations"][0]["phase"] == "completed" or None, "it has ended")
    assert "from afar" in node.cli("logs", name).good().out
    node.cli("rm", name, "--yes").good()


def test_ctrl_c_stops_and_removes_it(node: Node) -> None:
    command = [sys.executable, "-m", "orca", "run", WEB_IMAGE, "--", "sh", "-c", "echo begun; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=node.environ(), cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()
    until(lambda: not node.containers(), "its container is gone")
    assert names(node) == []
