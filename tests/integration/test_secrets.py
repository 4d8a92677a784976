"""Secrets of a running node: in the copies that use them, and in clear nowhere else."""

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.api.routes import ROUTES
from tests.images import WEB_IMAGE, docker, ensure_image
from tests.integration.node import Node, running_node, until

pytestmark = pytest.mark.docker
PASSWORD, NEWER, TOKEN = "hunter2-of-the-database", "tr0ub4dor-of-the-database", "file-token-of-nobody"

SERVE = (
    "mkdir -p /tmp/www && echo $URL > /tmp/www/env && cat /run/secrets/token > /tmp/www/file "
    "&& exec httpd -f -p 8080 -h /tmp/www"
)
SERVICE = f"""[[service]]
name = "web"
project = "shop"
image = "{WEB_IMAGE}"
pull = "never"
port = 8080
health = "/env"
routes = [{{ path = "/web", strip_path = true }}]
command = ["sh", "-c", "{SERVE}"]
[service.env]
URL = "pg://u:${{secrets.db}}@db"
[service.files]
"/run/secrets/token" = {{ secret = "token" }}
"""
SERVE_KEY = "mkdir -p /tmp/www/compose && cp /run/secrets/key /tmp/www/compose && exec httpd -f -p 8080 -h /tmp/www"
COMPOSE = f"""name: compose
services:
  web:
    image: {WEB_IMAGE}
    command: ["sh", "-c", "{SERVE_KEY}"]
    secrets: [key]
    expose: ["8080"]
    labels: {{ orca.path: /compose, orca.health: /compose/key }}
secrets:
  key: {{ file: ./key.txt }}
"""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    ensure_image()
    with running_node() as made:
        yield made


def set_secret(node: Node, name: str, value: str, *options: str) -> str:
    return node.cli("secrets", "set", name, *options, stdin=value.encode()).good().out


def test_a_deploy_that_names_a_secret_that_is_not_set_is_refused_and_says_how_to_set_it(node: Node) -> None:
    done = node.cli("deploy", node.file("service.toml", SERVICE))
    assert done.code == 2, str(done)
    assert "orca secrets set shop/db" in done.err
    assert "orca secrets set shop/token" in done.err
    assert node.get("/v1/services").json()["services"] == []


def test_a_copy_has_its_secrets_in_the_environment_and_in_a_file_that_lies_in_memory(node: Node) -> None:
    set_secret(node, "db", PASSWORD + "\n", "--project", "shop")
    set_secret(node, "token", TOKEN, "--cluster")
    node.cli("deploy", node.file("service.toml", SERVICE)).good()
    assert node.through_proxy("/web/env").text == f"pg://u:{PASSWORD}@db\n"
    assert node.through_proxy("/web/file").text == TOKEN
    (container,) = node.containers(service="shop/web")
    mounts = json.loads(docker("inspect", "--format", "{{json .Mounts}}", container))
    (source,) = [one["Source"] for one in mounts if one["Destination"] == "/run/secrets/token"]
    kind = subprocess.run(["stat", "-f", "-c", "%T", source], capture_output=True, check=True).stdout.strip()
    assert kind in {b"tmpfs", b"ramfs"}
    assert Path(source).parent.stat().st_mode & 0o077 == 0


def test_a_changed_secret_gives_its_users_new_copies_and_no_request_fails(node: Node) -> None:
    before = node.containers(service="shop/web")
    told = set_secret(node, "shop/db", NEWER)
    assert "new copies for shop/web" in told
    until(lambda: node.through_proxy("/web/env").text == f"pg://u:{NEWER}@db\n", "the new value is served")
    node.wait_rollout("shop/web", "completed")
    assert node.service("shop/web")["revision"] == 2
    until(lambda: not set(before) & set(node.containers(service="shop/web")), "the old copy is gone")
    assert "has that value already" in set_secret(node, "shop/db", NEWER)
    assert node.service("shop/web")["revision"] == 2


def test_a_secret_in_use_is_not_removed_and_the_listing_says_who_uses_it(node: Node) -> None:
    done = node.cli("secrets", "rm", "shop/db")
    assert done.code == 4, str(done)
    assert "used by shop/web" in done.err
    listed = node.cli("secrets", "ls").good().out
    assert "shop/db" in listed
    assert "shop/web" in listed
    assert "token (cluster)" in listed


def test_a_rotation_of_the_data_key_keeps_the_values_and_the_copies(node: Node) -> None:
    before = node.started_at(service="shop/web")
    assert node.cli("secrets", "rotate", "--json").good().json()["version"] == 2
    assert node.started_at(service="shop/web") == before
    os.kill(node.pid, signal.SIGKILL)
    assert node.process is not None
    node.process.wait(10)
    node.start()
    node.wait_ready("shop/web")
    assert node.started_at(service="shop/web") == before
    docker("kill", *node.containers(service="shop/web"))
    until(lambda: node.started_at(service="shop/web") not in ({}, before), "the copy is started anew")
    until(lambda: node.through_proxy("/web/env").text == f"pg://u:{NEWER}@db\n", "it opened its secrets again")


def test_the_secrets_of_an_unmodified_compose_file_are_sealed_before_it_is_deployed(node: Node) -> None:
    node.file("compose/key.txt", "compose-key-of-nobody")
    path = node.file("compose/compose.yaml", COMPOSE)
    assert node.cli("plan", path).good()
    assert "compose/key" not in node.cli("secrets", "ls").good().out
    node.cli("deploy", path).good()
    assert node.through_proxy("/compose/key").text == "compose-key-of-nobody"
    assert "compose/key" in node.cli("secrets", "ls").good().out


def test_values_are_imported_from_an_env_file(node: Node) -> None:
    path = node.file("more.env", "# two\nONE=first-of-import\nTWO='second-of-import'\n")
    assert "default/ONE set" in node.cli("secrets", "import", path).good().out
    node.cli("secrets", "rm", "ONE", "TWO").good()


def test_no_value_is_in_clear_anywhere_but_in_the_copies_that_use_it(node: Node) -> None:
    """Log, every answer of the API, store, data directory, labels, the command lines and environments of processes."""
    values = [PASSWORD, NEWER, TOKEN, "compose-key-of-nobody", "first-of-import", "second-of-import"]
    forms = [form for one in values for form in (one.encode(), base64.b64encode(one.encode()))]
    places: dict[str, bytes] = {"log": node.log.encode()}
    plain = [one.path for one in ROUTES if one.method == "GET" and "{" not in one.path and one.path != "/v1/watch"]
    for path in (*plain, "/v1/services/shop/web", "/v1/services/shop/web/history", "/v1/events?after=0&limit=1000"):
        places[path] = node.get(path).body
    places["logs"] = node.get("/v1/logs?service=shop/web").body
    for file in sorted(node.data.rglob("*")):
        if file.is_file():
            places[str(file)] = file.read_bytes()
    for container in node.containers(every=True):
        places[f"labels of {container}"] = docker("inspect", "--format", "{{json .Config.Labels}}", container).encode()
    places["environ"] = Path(f"/proc/{node.pid}/environ").read_bytes()
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            places[str(line)] = line.read_bytes()
    found = [(place, form) for place, content in places.items() for form in forms if form in content]
    assert not found
    assert len(places) > len(plain) > 20
    limits = Path(f"/proc/{node.pid}/limits").read_text()
    assert re.search(r"^Max core file size +0 ", limits, re.MULTILINE), "a crash would write what is in memory to disk"
