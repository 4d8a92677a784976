"""Nodes on computers of their own, and what a person types there."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.namespaces import Host
from tests.integration.node import ROOT, Finished, until

SETTLE_S = 60.0


@dataclass
class Computer:
    """A node on a computer of its own, as its owner uses it: by the command line there."""

    host: Host
    directory: Path
    name: str
    process: "subprocess.Popen[bytes] | None" = None
    options: tuple[str, ...] = ("--no-docker",)
    env: Mapping[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = ("orca",)
    """The module that its node runs, with what it takes before the words of the command line."""

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def inside(self, *words: str) -> list[str]:
        """`words` to be run on this computer."""
        return self.host.command(*words)

    def spawn(self, *words: str, token: str = "") -> None:
        """`orca WORDS` with this computer's settings, left running."""
        options = ("--data-dir", str(self.data), "--name", self.name, "--label", f"zone={self.name}", *self.options)
        command = self.inside(sys.executable, "-m", *self.program, *words, *options)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **self.env, "ORCA_JOIN_TOKEN": token}
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its node."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """`kill -9` of its node."""
        assert self.process is not None
        self.send(signal.SIGKILL)
        self.process.wait(10)

    def orca(self, *words: str, stdin: bytes = b"") -> Finished:
        """`orca WORDS` typed on this computer."""
        env = {**os.environ, "ORCA_NODE": f"unix:{self.data}/api.sock", "COLUMNS": "200"}
        command = self.inside(sys.executable, "-m", "orca", *words)
        done = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, timeout=120, env=env, check=False)
        return Finished(words, done.returncode, done.stdout.decode(), done.stderr.decode())

    def json(self, *words: str) -> Any:
        """What `orca WORDS --json` says, None while it fails."""
        done = self.orca(*words, "--json")
        return json.loads(done.out) if done.code == 0 else None

    def ask(self, path: str) -> Any:
        """The answer of its API by its unix socket, without the time that a command takes to start."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(10)
            door.connect(str(self.data / "api.sock"))
            connection = http.client.HTTPConnection("node")
            connection.sock = door
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())

    def request(self, path: str, address: str = "127.0.0.1") -> str:
        """The answer of the proxy at `address`, asked from this computer."""
        return self.host.run("curl", "-s", "-m", "10", f"http://{address}{path}")


def join_all(found: Sequence[Computer]) -> None:
    """What a person types: `orca up` on the first, and `orca join` with a token on each of the others."""
    first, names = found[0], sorted(one.name for one in found)
    first.spawn("up")
    until(lambda: first.json("status"), "the first node answers", SETTLE_S)
    for other in found[1:]:
        token = until(lambda: first.json("token", "create"), "a token", SETTLE_S)["token"]
        other.spawn("join", first.host.address, token=token)
    for one in found:
        until(lambda one=one: alive(one) == names, f"{one.name} lists all", SETTLE_S)  # type: ignore[misc] # bound now
    until(lambda: len(voters(first)) == min(len(names), 3), "three vote", SETTLE_S)


def alive(one: Computer) -> list[str]:
    """Whom the node believes alive, by name."""
    reply = one.json("nodes")
    return sorted(member["name"] for member in reply["members"] if member["state"] == "alive") if reply else []


def state_of(one: Computer, name: str) -> str:
    reply = one.json("nodes")
    return "" if reply is None else str({m["name"]: m["state"] for m in reply["members"]}.get(name, ""))


def voters(one: Computer) -> list[str]:
    reply = one.json("quorum")
    return sorted(m["name"] for m in reply["members"] if m["role"] in {"leader", "voter"}) if reply else []
