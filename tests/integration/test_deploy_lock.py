"""Two operators who deploy at once: the lock lets one in and tells the other who that is."""

import json
from concurrent.futures import ThreadPoolExecutor

from tests.integration.node import Finished, Node, until
from tests.integration.services import HELLO_WAT

SPEC = """
[[service]]
name = "locked"
runtime = "wasm"
module = "hello.wat"
port = 80
path = "/locked"
[service.env]
WHICH = "{which}"
[service.deploy]
min_healthy_time = "3s"
"""


def deploy(node: Node, which: str, *words: str) -> Finished:
    node.file("hello.wat", HELLO_WAT)
    return node.cli("deploy", node.file(f"{which}.toml", SPEC.format(which=which)), *words)


def test_of_two_deploys_with_a_lock_at_once_one_is_refused_and_changes_nothing(wasm_node: Node) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(deploy, wasm_node, "first", "--lock", "--note", "the first")
        until(lambda: wasm_node.get("/v1/locks").json()["locks"] or None, "the first deploy holds the lock")
        plain, second = deploy(wasm_node, "second"), deploy(wasm_node, "second", "--lock")
        assert not first.done(), "they ran at the same time"
        first.result().good()
    for refused in (plain, second):
        assert refused.code == 4
        assert "deploys to project default are locked by" in refused.err
        assert "(the first)" in refused.err
        assert "orca lock release default" in refused.err
    assert wasm_node.service("default/locked")["revision"] == 1
    assert "no project is locked" in wasm_node.cli("lock").good().out
    deploy(wasm_node, "second", "--detach").good()


def test_a_lock_that_a_person_holds_lets_in_who_names_it_and_is_released_by_hand(wasm_node: Node) -> None:
    (lock,) = json.loads(wasm_node.cli("--json", "lock", "acquire", "-m", "moving house", "--for", "1h").good().out)[
        "locks"
    ]
    assert "moving house" in wasm_node.cli("lock", "ls").good().out
    assert deploy(wasm_node, "third", "--detach").code == 4
    deploy(wasm_node, "third", "--detach", "--under", lock["id"]).good()
    wasm_node.cli("stop", "locked", "--detach").good()
    wasm_node.cli("lock", "release").good()
    assert wasm_node.cli("lock", "release").code == 3
    assert deploy(wasm_node, "fourth", "--detach", "--under", lock["id"]).code == 4, "it is not held any more"
    deploy(wasm_node, "fourth", "--detach").good()
    assert "acquire_lock" in wasm_node.cli("audit").good().out
