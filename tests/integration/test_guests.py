"""Wasm guests that misbehave cost a request, never the node."""

import time

from tests.integration.node import Node, until
from tests.integration.services import HELLO_WAT, module
from tests.node.runtime.wasm.guests import EATER, LOOP, TRAP, flooding


def deploy(node: Node, name: str, wat: str | bytes, more: str = "") -> None:
    node.file("good.wat", HELLO_WAT)
    node.file(f"{name}.wat", wat)
    text = module(name, path=f"{name}.wat", more=more) + module("good", path="good.wat")
    node.cli("deploy", node.file("service.toml", text)).good()


def assert_alive(node: Node) -> None:
    assert node.through_proxy("/good").text == "module\n"
    assert node.answers()


def test_guest_that_traps_costs_its_own_request(wasm_node: Node) -> None:
    deploy(wasm_node, "traps", TRAP)
    for _ in range(5):
        assert wasm_node.through_proxy("/traps").status in {500, 502}
        assert_alive(wasm_node)
    assert "unreachable" in wasm_node.cli("logs", "traps").good().out


def test_guest_that_loops_is_cut_off_at_its_deadline(wasm_node: Node) -> None:
    deploy(wasm_node, "loops", LOOP, 'request_timeout = "1s"')
    began = time.monotonic()
    assert wasm_node.through_proxy("/loops").status == 504
    assert time.monotonic() - began < 10
    assert_alive(wasm_node)


def test_guest_that_eats_memory_meets_its_limit(wasm_node: Node) -> None:
    deploy(wasm_node, "eats", EATER, '[service.resources]\nmemory = "16Mi"')
    assert wasm_node.through_proxy("/eats").status in {500, 502}
    assert_alive(wasm_node)


def test_guest_that_prints_100_megabytes_does_not_fill_the_node(wasm_node: Node) -> None:
    deploy(wasm_node, "floods", flooding(100))
    reply = wasm_node.through_proxy("/floods", timeout_s=60)
    assert reply.status in {200, 500, 502, 504}
    assert_alive(wasm_node)


def test_module_that_is_garbage_fails_its_deploy_with_the_reason(wasm_node: Node) -> None:
    wasm_node.file("junk.wasm", b"\x00asm\x01\x00\x00\x00 and then nothing that is a module")
    done = wasm_node.cli("deploy", wasm_node.file("service.toml", module("junk", path="junk.wasm")))
    assert done.code in {1, 2}, str(done)
    assert "junk" in done.err
    assert "Traceback" not in done.err
    until(wasm_node.answers, "the node lives")
