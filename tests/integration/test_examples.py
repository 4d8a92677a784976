"""The examples of the package run as they are."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.images import docker, ensure_image
from tests.integration.node import ROOT, Node, fetch
from tests.ports import free_port

PLAIN_COMPOSE = """\
name: plain
services:
  seed:
    image: {image}
    command: ["sh", "-c", "echo $$GREETING > /data/index.html"]
    env_file: ./greeting.env
    volumes: ["data:/data"]
  web:
    image: {image}
    command: ["httpd", "-f", "-p", "8080", "-h", "/data"]
    volumes: ["data:/data:ro"]
    ports: ["{port}:8080"]
    depends_on: {{ seed: {{ condition: service_completed_successfully }} }}
    restart: unless-stopped
  debug:
    image: {image}
    command: ["sleep", "1000"]
    profiles: [debug]
volumes:
  data: {{}}
"""
"""As people have it: not a word of Orca in it."""
EXAMPLES = ROOT / "orca" / "examples"
IMAGE = "busybox:stable"


@pytest.fixture(scope="module")
def _demo_image() -> Iterator[None]:
    had = bool(docker("images", "-q", IMAGE))
    ensure_image(IMAGE)
    yield
    if not had:
        subprocess.run(["docker", "rmi", "-f", IMAGE], capture_output=True, check=False)


def test_hello_answers(wasm_node: Node) -> None:
    wasm_node.cli("deploy", str(EXAMPLES / "hello")).good()
    assert "Hello from Orca!" in wasm_node.through_proxy("/hello").text
    assert len(wasm_node.wait_ready("default/hello", 2)) == 2


@pytest.mark.docker
@pytest.mark.usefixtures("_demo_image")
def test_web_answers_for_its_domain(node: Node) -> None:
    node.cli("deploy", str(EXAMPLES / "web")).good()
    assert "Hello from Orca" in node.through_proxy("/", "web.localhost").text
    assert node.through_proxy("/healthz", "web.localhost").text == "ok\n"
    node.wait_ready("web/web", 2)


@pytest.mark.docker
@pytest.mark.usefixtures("_demo_image")
def test_compose_file_comes_up_in_the_order_of_its_dependencies(node: Node) -> None:
    node.cli("deploy", str(EXAMPLES / "shop" / "compose.yaml")).good()
    assert "<h1>Shop</h1>" in node.through_proxy("/", "shop.localhost").text
    products = fetch(node.ingress, "GET", "/products.json", headers={"host": "shop.localhost"})
    assert json.loads(products.body)
    events = node.events()

    def first(kind: str, service: str) -> int:
        return next(n for n, one in enumerate(events) if one["kind"] == kind and one.get("service") == service)

    assert first("allocation.ready", "shop/db") < first("allocation.started", "shop/api")
    assert first("allocation.ready", "shop/api") < first("allocation.started", "shop/web")
    node.cli("deploy", str(EXAMPLES / "shop")).good()
    assert node.service("shop/web")["revision"] == 1


@pytest.mark.docker
@pytest.mark.usefixtures("_demo_image")
def test_a_compose_file_that_knows_nothing_of_orca_comes_up_and_answers_on_its_port(node: Node) -> None:
    port = free_port()
    node.file("greeting.env", "GREETING=hello from a file\n")
    path = node.file("compose.yaml", PLAIN_COMPOSE.format(image=IMAGE, port=port))
    done = node.cli("deploy", path).good()
    assert "none of its profiles is active" in done.out + done.err
    assert fetch(port, "GET", "/").text == "hello from a file\n"
    services = {one["id"]: one for one in node.get("/v1/services").json()["services"] if one["project"] == "plain"}
    assert sorted(services) == ["plain/seed", "plain/web"]
    assert services["plain/seed"]["allocations"][0]["phase"] == "completed"
    node.cli("rm", "plain/web", "plain/seed", "--yes").good()
