"""A node in a process of its own, as a person runs one, and what a test does with it.

Everything of it lies below one temporary directory and carries its cluster's label, so that
`running_node` leaves nothing behind, however the test ended. Its log is printed when it fails.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.images import docker, remove_by_label
from tests.ports import free_port

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
"""How long a test waits for something that takes far less on an idle computer."""
_never = threading.Event()


def pause(seconds: float) -> None:
    """Let real time pass: between two looks at a process that no virtual clock reaches."""
    _never.wait(seconds)


def until(look: Callable[[], T | None], what: str, timeout_s: float = PATIENCE_S) -> T:
    """What `look` gives as soon as it gives anything true."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        pause(0.05)


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Finished:
    """How an `orca` command ended."""

    args: tuple[str, ...]
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def good(self) -> "Finished":
        assert self.code == 0, f"{self}"
        return self

    def __str__(self) -> str:
        return f"orca {' '.join(self.args)}: exit code {self.code}\n{self.out}\n{self.err}"


def fetch(
    port: int,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = PATIENCE_S,
) -> Reply:
    """One request to a port of this computer, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return Reply(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


@dataclass
class Node:
    """One node. `options` go to `orca up`; `config` is the text of its TOML file; `env` is added to its environment."""

    directory: Path
    options: tuple[str, ...] = ()
    config: str = ""
    api: int = field(default_factory=free_port)
    ingress: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None
    cluster: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def up_command(self) -> list[str]:
        """The command line that starts it."""
        path = self.directory / "cluster.toml"
        path.write_text(self.config)
        return [
            sys.executable, "-m", "orca", "up", "--data-dir", str(self.data), "--api", f"127.0.0.1:{self.api}",
            "--http", f"127.0.0.1:{self.ingress}", "--gossip", "127.0.0.1:0", "--mesh", "0",
            "--config", str(path), *self.options,
        ]  # fmt: skip

    def start(self) -> None:
        """Start it and return once its API answers."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.up_command(), cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **self.env}
            )
        until(self.answers, "the node's API answers")
        self.cluster = self.get("/v1/status").json()["cluster"]

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the node ended with {self.process.returncode}:\n{self.log}"
        try:
            return fetch(self.api, "GET", "/healthz", timeout_s=2).status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    # ------------------------------------------------------------------ its doors

    def cli(self, *args: str, stdin: bytes | None = None, timeout_s: float = 90.0, cwd: Path | None = None) -> Finished:
        """Run `orca ARGS` against it."""
        done = subprocess.run(
            [sys.executable, "-m", "orca", *args],
            input=b"" if stdin is None else stdin,
            capture_output=True,
            timeout=timeout_s,
            cwd=cwd or self.directory,
            env=self.environ(),
            check=False,
        )
        return Finished(args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def environ(self) -> dict[str, str]:
        """The environment of a command that talks to it."""
        return {**os.environ, "ORCA_NODE": f"http://127.0.0.1:{self.api}", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def get(self, path: str, **settings: Any) -> Reply:
        return fetch(self.api, "GET", path, **settings)

    def post(self, path: str, body: Any = None, **settings: Any) -> Reply:
        headers = {"content-type": "application/json"}
        return fetch(self.api, "POST", path, body=json.dumps(body or {}).encode(), headers=headers, **settings)

    def deploy_text(self, text: str, project: str = "default") -> Reply:
        """Put the services of a TOML text, as `curl --data-binary @service.toml` does."""
        headers = {"content-type": "application/toml"}
        return fetch(self.api, "POST", f"/v1/deploys?project={project}", body=text.encode(), headers=headers)

    def through_proxy(self, path: str, host: str = "localhost", **settings: Any) -> Reply:
        return fetch(self.ingress, "GET", path, headers={"host": host}, **settings)

    # ------------------------------------------------------------------ what is there

    def file(self, name: str, text: str | bytes) -> str:
        """A file in its directory; gives the path."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    def service(self, name: str) -> Any:
        """The view of one service, by `project/name`."""
        reply = self.get(f"/v1/services/{name}")
        assert reply.status == 200, reply.text
        return reply.json()["service"]

    def copies(self, name: str) -> list[Any]:
        """The copies of a service that are meant to run."""
        reply = self.get(f"/v1/allocations?service={name}")
        found = reply.json()["allocations"] if reply.status == 200 else []
        return [one for one in found if one["desired"] == "running"]

    def ready(self, name: str, count: int) -> list[Any] | None:
        """The copies when exactly `count` there are and all are ready, else None."""
        copies = self.copies(name)
        return copies if len(copies) == count and all(one["is_ready"] for one in copies) else None

    def wait_ready(self, name: str, count: int = 1, timeout_s: float = PATIENCE_S) -> list[Any]:
        return until(lambda: self.ready(name, count), f"{count} ready copies of {name}", timeout_s)

    def wait_rollout(self, name: str, state: str, timeout_s: float = PATIENCE_S) -> Any:
        """The service's view once its rollout is `state`."""

        def look() -> Any:
            view = self.service(name)
            return view if view["rollout"]["state"] == state else None

        return until(look, f"the rollout of {name} is {state}", timeout_s)

    def events(self, **filters: str) -> list[Any]:
        query = "&".join(f"{key}={value}" for key, value in {"after": "0", "limit": "1000", **filters}.items())
        found: list[Any] = self.get(f"/v1/events?{query}").json()["events"]
        return found

    def containers(self, *, service: str = "", host: str = "", every: bool = False) -> list[str]:
        """Ids of its containers, those that ended too with `every`."""
        labels = [f"orca.cluster={self.cluster}", *([f"orca.service={service}"] if service else [])]
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        return docker("ps", "-q", "--no-trunc", *(("-a",) if every else ()), *filters, host=host).split()

    def started_at(self, *, service: str = "") -> dict[str, str]:
        """When each of its running containers was started."""
        found = self.containers(service=service)
        return {one: docker("inspect", "--format", "{{.State.StartedAt}}", one).strip() for one in found}


@contextlib.contextmanager
def running_node(
    *options: str,
    config: str = "",
    needs_docker: bool = True,
    engine: str = "",
    start: bool = True,
    env: Mapping[str, str] | None = None,
) -> Iterator[Node]:
    """A node in a directory of its own; with `needs_docker=False` one that runs Wasm only."""
    with tempfile.TemporaryDirectory(prefix="orca-node-", ignore_cleanup_errors=True) as made:
        more = () if needs_docker else ("--no-docker",)
        node = Node(Path(made), options=(*more, *options), config=config, env=env or {})
        try:
            if start:
                node.start()
            yield node
        except BaseException:
            print(f"---- log of the node\n{node.log[-8000:]}")  # noqa: T201
            raise
        finally:
            if node.process is not None and node.process.poll() is None:
                node.kill()
            if node.cluster and needs_docker:
                remove_by_label(f"orca.cluster={node.cluster}", host=engine)
