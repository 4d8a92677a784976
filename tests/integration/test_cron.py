"""A service with a schedule on a real node: a run each minute, which is a job with output."""

from typing import Any

import pytest

from tests.images import WEB_IMAGE
from tests.integration.node import Node, until

pytestmark = pytest.mark.docker
SPEC = f"""
[[service]]
name = "tick"
image = "{WEB_IMAGE}"
pull = "never"
command = ["sh", "-c", "echo run of $WHAT"]
schedule = "* * * * *"
[service.env]
WHAT = "tick"
"""


def runs(node: Node) -> list[Any]:
    return [one for one in node.get("/v1/services").json()["services"] if one["name"].startswith("tick-")]


def test_a_schedule_makes_a_run_at_its_moment_and_none_of_its_own(node: Node) -> None:
    done = node.cli("deploy", node.file("tick.toml", SPEC)).good()
    assert "tick" in done.out
    first = until(lambda: runs(node), "a run at the next minute", timeout_s=75)[0]
    ended = until(
        lambda: next((one for one in runs(node) if one["rollout"]["state"] == "completed"), None), "it runs to its end"
    )
    assert ended["id"] == first["id"]
    assert node.cli("logs", first["name"]).good().out.rstrip().endswith("run of tick")
    assert node.service("default/tick")["allocations"] == []
    assert "scheduled" in node.cli("status").good().out
    assert len(runs(node)) == 1
    assert node.cli("run", "tick").good().out == "run of tick\n"
    node.cli("rm", "tick", "--yes").good()
    until(lambda: not runs(node), "its runs go with it")
