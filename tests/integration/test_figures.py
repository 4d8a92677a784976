"""Figures of a real node: noted, drawn, and an alert with an end when they go too far."""

import time

import pytest

from tests.integration.node import Node, pause, until
from tests.integration.services import HELLO_WAT, module

pytestmark = [pytest.mark.slow, pytest.mark.integration]
PATIENCE_S = 90.0
FAILING_WAT = HELLO_WAT.replace("content-type: text/plain\\n\\nmodule\\n", "status: 500\\ncontent-type: a/b\\n\\n")


def test_a_service_that_answers_with_errors_is_an_alert_and_its_figures_are_drawn(wasm_node: Node) -> None:
    node = wasm_node
    node.file("bad.wat", FAILING_WAT)
    node.cli("deploy", node.file("bad.toml", module("bad", path="bad.wat"))).good()
    assert node.through_proxy("/bad").status == 500
    give_up_at = time.monotonic() + PATIENCE_S
    while "error-surge:default/bad" not in node.cli("alerts").out:
        assert time.monotonic() < give_up_at, node.cli("alerts").out
        for _ in range(10):
            node.through_proxy("/bad")
        pause(0.2)
    shown = node.cli("alerts", "show", "error-surge:default/bad").good().out
    assert "100 % of its answers were errors" in shown
    assert "orca logs bad" in shown
    assert node.get("/v1/alerts?service=default/bad").json()["alerts"][0]["severity"] == "error"

    def drawn() -> bool:
        return "100.0%" in node.cli("stats", "--since", "2m", "--traffic", "bad").good().out

    until(drawn, "errors are drawn", PATIENCE_S)
    nodes = node.cli("--json", "stats", "--since", "2m", "--nodes").good().json()
    assert {one["figure"] for one in nodes["series"]} >= {"node_cpu_share", "node_memory_share", "disk_free_share"}
    until(lambda: "bad.1" in node.cli("stats", "--since", "2m").good().out, "its copy is drawn, too", PATIENCE_S)
    node.cli("rm", "bad", "--yes").good()
    until(lambda: "error-surge" not in node.cli("alerts").out, "it is over with its service", PATIENCE_S)
