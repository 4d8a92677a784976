"""Readers of a node's events as they come: of its server-sent events, and of `orca events -f`."""

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from tests.integration.node import Node, until

SILENCE_S = 30.0
"""Twice the node's keep-alive: a stream that says nothing for so long is broken."""


class EventStream:
    """One connection to `GET /v1/events?follow=1`; a context manager that closes it."""

    def __init__(self, node: Node, query: str, headers: dict[str, str] | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", node.api, timeout=SILENCE_S)
        self._connection.request("GET", f"/v1/events?follow=1&{query}", headers=headers or {})
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.read()
        assert self._answer.headers["content-type"] == "text/event-stream"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def events(self) -> Iterator[Any]:
        """Each event as it comes; its `id` field is checked against its number."""
        number = ""
        while line := self._answer.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                number = value
            if name == "data":
                event = json.loads(value)
                assert number == str(event["sequence"])
                yield event

    def take(self, is_last: Callable[[Any], bool]) -> list[Any]:
        """The events up to and with the one of which `is_last` is true."""
        taken = []
        for event in self.events():
            taken.append(event)
            if is_last(event):
                return taken
        raise AssertionError(f"the stream ended after {len(taken)} events")


class Follower:
    """`orca events -f` in a process of its own; `lines` are what it has printed so far."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.lines: list[bytes] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, b""))

    def sequences(self) -> list[int]:
        return [json.loads(line)["sequence"] for line in list(self.lines)]

    def wait_for(self, sequence: int) -> None:
        """Return when it has printed the event of that number."""

        def is_there() -> bool:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}"
            lines = self.lines[-1:]
            return bool(lines) and json.loads(lines[0])["sequence"] >= sequence

        until(is_there, f"`orca events -f` prints event {sequence}", 60)

    def interrupt(self) -> int:
        """Ctrl-C; its exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(20)
        self._thread.join(20)
        return code


@contextmanager
def following(node: Node, *options: str) -> Iterator[Follower]:
    """`orca --json events -f OPTIONS` against `node`."""
    command = [sys.executable, "-m", "orca", "--json", "events", "-f", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=node.environ()) as process:
        follower = Follower(process)
        try:
            yield follower
        finally:
            process.kill()
