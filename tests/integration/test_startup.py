"""What keeps a node from starting, and a store that is full: said clearly, and nothing is lost."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.integration.node import ROOT, Finished, Node, running_node, until
from tests.integration.services import HELLO_WAT, container, module
from tests.ports import free_port


def end_of(node: Node) -> Finished:
    """How `orca up` ends that cannot start."""
    done = subprocess.run(node.up_command(), capture_output=True, cwd=ROOT, timeout=30, check=False)
    return Finished(("up",), done.returncode, done.stdout.decode(), done.stderr.decode())


def test_second_node_on_a_directory_is_refused_by_name(wasm_node: Node) -> None:
    second = Node(wasm_node.directory, options=("--no-docker",))
    done = end_of(second)
    assert done.code == 6, str(done)
    assert str(wasm_node.pid) in done.err
    assert str(wasm_node.data) in done.err
    assert "Traceback" not in done.err
    assert wasm_node.answers()


@pytest.mark.parametrize("door", ["api", "ingress"])
def test_port_that_is_taken_is_named(door: str) -> None:
    with socket.socket() as other, running_node(needs_docker=False, start=False) as node:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = int(other.getsockname()[1])
        setattr(node, door, port)
        done = end_of(node)
        assert done.code == 6, str(done)
        assert str(port) in done.err
        assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("api_prot = 1", "api_prot"),
        ("api_port = 70000", "70000"),
        ("api_port = ", "cluster.toml"),
        ('name = "\x00', "cluster.toml"),
        ('labels = { "orca.x" = "1" }', "orca.x"),
    ],
)
def test_wrong_settings_are_refused_with_file_and_key(config: str, word: str) -> None:
    with running_node(needs_docker=False, start=False, config=config) as node:
        done = end_of(node)
        assert done.code == 2, str(done)
        assert word in done.err
        assert "Traceback" not in done.err


def damage(path: Path) -> None:
    """Overwrite the first two pages, the ones that say where everything is."""
    with path.open("r+b") as file:
        file.write(os.urandom(16384))


def test_damaged_store_is_refused_and_never_taken_for_an_empty_one() -> None:
    with running_node(needs_docker=False) as node:
        node.file("hello.wat", HELLO_WAT)
        node.cli("deploy", node.file("service.toml", module())).good()
        node.kill()
        (store,) = node.data.rglob("data.mdb")
        damage(store)
        before = store.read_bytes()
        done = end_of(node)
        assert done.code == 6, str(done)
        assert str(node.data) in done.err
        assert "Traceback" not in done.err
        assert store.read_bytes() == before


def test_full_store_refuses_changes_and_services_go_on() -> None:
    with running_node(needs_docker=False, config="[store]\nmap_bytes_max = 1048576\n") as node:
        node.file("hello.wat", HELLO_WAT)
        node.cli("deploy", node.file("service.toml", module())).good()
        label = "x" * 60_000

        def refusal() -> Finished | None:
            more = f'labels = {{ filling = "{label}{os.urandom(8).hex()}" }}'
            done = node.cli("--json", "deploy", "-d", node.file("big.toml", module("big", more=more)))
            return done if done.code else None

        refused = until(refusal, "the store is full", 60)
        assert "store_full" in refused.out + refused.err, str(refused)
        again = node.deploy_text(container("large", more=f'labels = {{ filling = "{label}" }}'))
        assert again.status == 507, again.text
        assert again.json()["error"]["code"] == "store_full"
        assert node.through_proxy("/hello").text == "module\n"
        (view,) = node.get("/v1/status").json()["nodes"]
        assert view["facts"]["accepts_work"] is False
        assert "store" in view["facts"]["refusal"]
        assert "store" in node.cli("status").good().out
        assert node.service("default/hello")["ready"] == 1
        node.kill()
        node.start()
        node.wait_ready("default/hello")
        assert node.through_proxy("/hello").text == "module\n"


def test_no_node_is_said_with_its_address() -> None:
    with running_node(needs_docker=False, start=False) as node:
        node.api = free_port()
        done = node.cli("status")
        assert done.code == 5, str(done)
        assert str(node.api) in done.err
