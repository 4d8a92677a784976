"""Workloads that fail: what a person is told, and what heals by itself."""

import socket

import pytest

from tests.images import docker
from tests.integration.node import Node, until
from tests.integration.services import container, worker

pytestmark = pytest.mark.docker


def deploy_fails(node: Node, text: str) -> str:
    """Deploy `text`, which has to fail with exit code 1; all that the command said."""
    done = node.cli("deploy", node.file("service.toml", text))
    assert done.code == 1, str(done)
    return done.out + done.err


def test_image_that_does_not_exist_is_named(node: Node) -> None:
    text = worker("noimage", "true").replace("orca-test-web:1", "orca-test-missing:9")
    said = deploy_fails(node, text + '[service.deploy]\ndeadline = "10s"\n')
    assert "orca-test-missing:9" in said
    assert "noimage.1" in said


def test_command_that_exits_at_once_backs_off_and_says_why(node: Node) -> None:
    said = deploy_fails(node, worker("crash", "echo last words; exit 9", more='[service.deploy]\ndeadline = "6s"'))
    assert "exit code 9" in said
    assert "last words" in said
    assert "crash.1" in said
    (copy,) = node.copies("default/crash")
    assert copy["restarts"] >= 1
    assert "exit code 9" in node.cli("ps", "crash").good().out
    node.cli("rm", "-y", "crash").good()


def test_command_that_is_not_in_the_image_is_named(node: Node) -> None:
    text = worker("nocommand", "true", more='[service.deploy]\ndeadline = "6s"').replace('"sh", "-c"', '"/no/such"')
    assert "/no/such" in deploy_fails(node, text)
    node.cli("rm", "-y", "nocommand").good()


def test_published_port_that_is_taken_is_named(node: Node) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        text = worker(
            "ported", "sleep 100", more=f'ports = ["127.0.0.1:{port}:8080"]\n[service.deploy]\ndeadline = "6s"'
        )
        said = deploy_fails(node, text)
    assert str(port) in said
    node.cli("rm", "-y", "ported").good()


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


def test_death_by_lack_of_memory_is_called_that(node: Node) -> None:
    eat = "sleep 0.2; x=$(yes | head -c 100000000); echo survived"
    text = worker("eater", eat, more='[service.resources]\nmemory = "16Mi"\n[service.deploy]\ndeadline = "8s"')
    node.cli("deploy", "-d", node.file("service.toml", text)).good()
    until(lambda: "out of memory" in str(node.events(service="default/eater")), "the event names memory")
    node.cli("rm", "-y", "eater").good()
