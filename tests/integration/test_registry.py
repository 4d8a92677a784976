"""Images of a real registry: fetched with progress and by policy, behind a password, and missing."""

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orca.errors import ImageNotFoundError
from tests.contracts.runtime import ignore_progress, running
from tests.images import docker
from tests.integration.node import Node, running_node, until
from tests.integration.registry import PASSWORD, USER, Registries, needs_registry, running_registries
from tests.node.runtime.docker_subject import DockerSubject
from tests.ports import free_port

pytestmark = [pytest.mark.docker, needs_registry]

LARGE_BYTES = 48 * 2**20
DEADLINE = '[service.deploy]\ndeadline = "3s"\n'


@pytest.fixture(scope="module")
def registries() -> Iterator[Registries]:
    with running_registries() as made:
        try:
            made.push("large:1", "large", filler_bytes=LARGE_BYTES)
            made.push("moving:1", "one")
            made.push("secret:1", "secret")
            yield made
        finally:
            made.clean()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The home directory of the user that runs the node; `docker login` writes there."""
    with tempfile.TemporaryDirectory(prefix="orca-home-") as made:
        yield Path(made)


@pytest.fixture(scope="module")
def node(home: Path) -> Iterator[Node]:
    with running_node(env={"HOME": str(home), "DOCKER_CONFIG": ""}) as made:
        yield made


def service(name: str, image: str, *, pull: str = "missing", more: str = "") -> str:
    """A web service of a pulled image."""
    head = f'[[service]]\nname = "{name}"\nimage = "{image}"\npull = "{pull}"\nport = 8080\n'
    return f'{head}domain = "{name}.example"\nstop_timeout = "1s"\n{more}'


def is_on_engine(image: str) -> bool:
    return bool(docker("images", "-q", image).strip())


@contextmanager
def watched_progress(node: Node, name: str) -> Iterator[list[Any]]:
    """What the API says of a copy's preparation meanwhile."""
    seen: list[Any] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.02):
            for copy in node.copies(name):
                if copy["progress"] is not None and copy["progress"] not in seen[-1:]:
                    seen.append(copy["progress"])

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        is_over.set()
        looking.join(20)


def test_missing_image_is_pulled_and_the_progress_is_shown(node: Node, registries: Registries) -> None:
    image = f"{registries.open}/large:1"
    assert not is_on_engine(image)
    with watched_progress(node, "default/large") as seen:
        done = node.cli("deploy", node.file("large.toml", service("large", image))).good()
    assert node.through_proxy("/", "large.example").text == "large\n"
    assert is_on_engine(image)
    bars = [line for line in done.err.splitlines() if line.startswith("large.1 preparing pulling")]
    assert bars, done.err
    assert any("█" in line and "%" in line and "MiB of" in line for line in bars), done.err
    pulling = [one for one in seen if one["step"] == "pulling" and one["total"] >= LARGE_BYTES]
    assert pulling, seen
    assert all(0 <= one["current"] <= one["total"] for one in seen if one["total"])
    assert [one["current"] for one in pulling] == sorted(one["current"] for one in pulling)
    (copy,) = node.copies("default/large")
    assert copy["progress"] is None
    node.cli("rm", "-y", "large").good()


def test_policy_says_when_the_registry_is_asked(node: Node, registries: Registries) -> None:
    image = f"{registries.open}/moving:1"
    path = node.file("moving.toml", service("moving", image))
    node.cli("deploy", path).good()
    assert node.through_proxy("/", "moving.example").text == "one\n"
    kept = docker("images", "-q", "--no-trunc", image)
    registries.push("moving:1", "two")
    docker("tag", kept.strip(), image)  # pushing took the name away
    node.cli("restart", "moving").good()
    assert node.through_proxy("/", "moving.example").text == "one\n"
    always = node.file("moving.toml", service("moving", image, pull="always"))
    node.cli("deploy", always).good()
    node.cli("restart", "moving").good()
    until(lambda: node.through_proxy("/", "moving.example").text == "two\n", "the new image answers")
    registries.forget("moving:1")
    never = node.file("never.toml", service("never", image, pull="never", more=DEADLINE))
    done = node.cli("deploy", never)
    assert done.code == 1, str(done)
    assert f"image {image} is not on this node, and the spec says never to pull it" in done.err
    node.cli("rm", "-y", "moving", "never").good()


def test_what_cannot_be_pulled_is_named_with_the_cause(node: Node, registries: Registries) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    images = {
        "notag": (f"{registries.open}/large:9", "not found"),
        "norepo": (f"{registries.open}/nothing:1", "not found"),
        "noregistry": (f"{nowhere}/large:1", "connection refused"),
        "nologin": (
            f"{registries.private}/secret:1",
            f"the node has no credentials for {registries.private} in ~/.docker/config.json",
        ),
    }
    text = "".join(service(name, image, more=DEADLINE) for name, (image, _) in images.items())
    done = node.cli("--json", "deploy", node.file("missing.toml", text))
    assert done.code == 1, str(done)
    reasons = {one["service"]: one["unhealthy"][0]["reason"] for one in done.json()["wait"]["failures"]}
    for name, (image, cause) in images.items():
        assert reasons[f"default/{name}"].startswith(f"image {image} could not be fetched: "), reasons
        assert cause in reasons[f"default/{name}"]
    node.cli("rm", "-y", *images).good()


async def test_missing_tag_is_image_not_found_to_the_caller(registries: Registries) -> None:
    subject = DockerSubject()
    workload = subject.workload(source={"image": f"{registries.open}/large:9"})
    runtime = subject.make()
    async with running(runtime):
        with pytest.raises(ImageNotFoundError, match=r"large:9 could not be fetched: .*not found") as caught:
            await runtime.prepare(workload, ignore_progress)
    assert caught.value.code == "image_not_found"
    assert "tag" in caught.value.hint


def log_in(home: Path, registry: str, password: str) -> None:
    """What `docker login` writes, also for a password that the registry refuses."""
    command = ["docker", "--config", str(home / ".docker"), "login", registry, "-u", USER, "--password-stdin"]
    done = subprocess.run(command, input=password.encode(), capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_private_registry_is_entered_with_the_login_of_the_nodes_user(
    node: Node, registries: Registries, home: Path
) -> None:
    """Refused, then wrong, then unreadable, then right: each is said, and the last heals by itself."""
    config = home / ".docker" / "config.json"
    text = service("secret", f"{registries.private}/secret:1")
    node.cli("deploy", "-d", node.file("secret.toml", text)).good()

    def told(words: str) -> None:
        until(lambda: words in node.copies("default/secret")[0]["reason"], words)

    told(f"no credentials for {registries.private}")
    log_in(home, registries.private, PASSWORD)
    right = config.read_text()
    wrong = json.loads(right)
    wrong["auths"][registries.private]["auth"] = "b3JjYTp3cm9uZw=="  # orca:wrong
    config.write_text(json.dumps(wrong))
    told(f"the credentials for {registries.private} in {config} were refused")
    config.write_text('{"auths": {}, "credsStore": "nowhere"}')
    told("docker-credential-nowhere not installed")
    config.write_text("{no json")
    told(f"the node's credentials cannot be read: {config}")
    config.write_text(right)
    began = time.monotonic()
    node.wait_ready("default/secret", timeout_s=60)
    assert time.monotonic() - began < 60
    assert node.through_proxy("/", "secret.example").text == "secret\n"
    everything = json.dumps([node.events(), node.get("/v1/services").json(), node.log])
    assert PASSWORD not in everything
    assert json.loads(right)["auths"][registries.private]["auth"] not in everything
    node.cli("rm", "-y", "secret").good()
