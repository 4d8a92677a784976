"""A node in a process of its own, as a person runs one."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from orca.model.ids import ServiceName
from orca.model.spec import ContainerImage, PullPolicy, RouteSpec, ServiceSpec
from orca.model.view import DeployRequest
from simulations.bench.sandbox import ROOT, body_of, until


class NodeProcess:
    """A running node. Its doors are on 127.0.0.1."""

    def __init__(self, pid: int, api: int, ingress: int, timeout_s: float = 30.0) -> None:
        self.pid = pid
        self.api, self.ingress = api, ingress
        self._api = http.client.HTTPConnection("127.0.0.1", api, timeout=timeout_s)

    def call(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
        """The reply of one API call. Raises RuntimeError when it is refused."""
        try:
            self._api.request(method, path, body, {} if body is None else {"content-type": kind})
        except ConnectionError:  # the node has closed what was silent for long
            self._api.close()
            self._api.request(method, path, body, {} if body is None else {"content-type": kind})
        answer = self._api.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {content.decode(errors='replace')}")
        return msgspec.json.decode(content) if content[:1] == b"{" else None

    def fresh(self, timeout_s: float) -> "NodeProcess":
        """The same node through a connection of its own, which gives up after `timeout_s`."""
        return NodeProcess(self.pid, self.api, self.ingress, timeout_s)

    def deploy(self, *specs: ServiceSpec) -> None:
        """Put services; they are `routed` by their names."""
        self.call("POST", "/v1/deploys", msgspec.json.encode(DeployRequest(specs=specs)))

    def ready(self, name: str) -> int:
        """How many copies of a service are ready."""
        return int(self.call("GET", f"/v1/services/default/{name}")["service"]["ready"])

    def ask(self, name: str) -> str | None:
        """The body of a GET to a service through the proxy; None unless it was answered with 200."""
        return body_of("127.0.0.1", self.ingress, headers=(("host", domain_of(name)),))

    def remove(self, name: str) -> None:
        """Take a service away and wait until nothing of it is left."""
        self.call("DELETE", f"/v1/services/default/{name}")
        until(lambda: not self.call("GET", "/v1/allocations")["allocations"], f"{name} is removed", pause_s=0.1)


def idle_spec(number: int) -> ServiceSpec:
    """A service that wants no copy: known, and nothing else."""
    image = ContainerImage(image="none:1", pull=PullPolicy.NEVER)
    return ServiceSpec(name=ServiceName(f"service-{number}"), source=image, replicas=0)


def domain_of(name: str) -> str:
    """Where the proxy serves a service of a bench."""
    return f"{name}.localhost"


def route_of(name: str) -> tuple[RouteSpec, ...]:
    """The routes of a service of a bench."""
    return (RouteSpec(domain=domain_of(name)),)


@contextmanager
def running_node(directory: Path, *options: str, docker_url: str = "") -> Iterator[NodeProcess]:
    """A node with its data below `directory`; stopped at the end."""
    api, ingress = free_port(), free_port()
    settings = directory / "cluster.toml"
    settings.write_text(f'docker_url = "{docker_url}"\n')
    command = [
        sys.executable, "-m", "orca", "up", "--data-dir", str(directory / "node"), "--api", f"127.0.0.1:{api}",
        "--http", f"127.0.0.1:{ingress}", "--gossip", "127.0.0.1:0", "--mesh", "0", "--config", str(settings), *options,
    ]  # fmt: skip
    log = directory / "node.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)

    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"the node ended:\n{log.read_text()[-3000:]}")
        return body_of("127.0.0.1", api, "/healthz") is not None

    try:
        until(answers, "the node's API answers")
        yield NodeProcess(process.pid, api, ingress)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def join_cluster(directory: Path, member: NodeProcess, *options: str) -> None:
    """Make the data below `directory` that of a node of `member`'s cluster; nothing runs yet."""
    until(lambda: member.call("GET", "/v1/ca")["authorities"], "the cluster has its CA", pause_s=0.05)
    made = member.call("POST", "/v1/tokens")
    command = [
        sys.executable, "-m", "orca", "join", made["peer"], "--join-only", "--data-dir", str(directory / "node"),
        "--gossip", "127.0.0.1:0", "--mesh", "0", *options,
    ]  # fmt: skip
    environment = {**os.environ, "ORCA_JOIN_TOKEN": made["token"]}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=60)


def free_port() -> int:
    """One that nobody has at present."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
