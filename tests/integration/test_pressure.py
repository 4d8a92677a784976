"""A node that has nothing to do does nothing; one that has much to do still answers."""

import threading
import time

import psutil
import pytest

from tests.integration.node import PATIENCE_S, Node, pause, until
from tests.integration.services import HELLO_WAT, module, worker

IDLE_S = 5.0


def test_idle_node_takes_next_to_no_processor_time(wasm_node: Node) -> None:
    wasm_node.file("hello.wat", HELLO_WAT)
    wasm_node.cli("deploy", wasm_node.file("service.toml", module(replicas=2))).good()
    pause(1)
    process = psutil.Process(wasm_node.pid)
    before = process.cpu_times()
    pause(IDLE_S)
    after = process.cpu_times()
    used_s = after.user - before.user + after.system - before.system
    assert used_s < 0.1 * IDLE_S


@pytest.mark.docker
def test_api_answers_while_twenty_copies_start(node: Node) -> None:
    took_s: list[float] = []
    failed: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(0.02):
            began = time.monotonic()
            try:
                reply = node.get("/v1/status")
            except OSError as error:
                failed.append(repr(error))
                continue
            took_s.append(time.monotonic() - began)
            if reply.status != 200:
                failed.append(reply.text)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        node.cli("deploy", "-d", node.file("service.toml", worker("many", "sleep 1000", replicas=20))).good()
        node.wait_ready("default/many", 20, 60)
    finally:
        is_over.set()
        asker.join(PATIENCE_S)
    assert not asker.is_alive()
    assert failed == []
    assert len(took_s) >= 20, "the deploy took long enough to say something"
    took_s.sort()
    assert took_s[len(took_s) * 95 // 100] < 1.0, "the cores are busy with containers, but nothing blocks the node"
    assert took_s[-1] < 5.0
    node.cli("rm", "-y", "many").good()
    until(lambda: not node.containers(every=True), "all containers are gone")
