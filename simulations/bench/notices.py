"""How soon somebody is told: `python -m simulations.bench.notices`.

A job fails on a node that knows one channel; the receiver is on the same computer. Counted is from the moment of the
event that raises the alert to the message. The limit is the sending process alone, started by hand.
"""

import hashlib
import http.server
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import trio

from node.notices.sending import send_message
from node.notices.words import Message
from orca.model.ids import BlobDigest, ServiceName
from orca.model.spec import RestartPolicy, RestartSpec, ServiceSpec, WasmModule
from simulations.bench.node_process import running_node
from simulations.bench.report import Line, say, show
from simulations.bench.sandbox import until

ROUNDS: Final = 6
APART_S: Final = 11.0
"""More than a channel waits from one message to the next."""
GOAL_S: Final = 1.0
_FAILS: Final = b"""(module (memory (export "memory") 1) (func (export "_start") unreachable))"""


class Receiver(http.server.ThreadingHTTPServer):
    """Takes messages, with the time at which each came."""

    def __init__(self) -> None:
        came: list[tuple[float, str]] = []
        self.came = came

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                came.append((time.time(), str(json.loads(body)["title"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class has it so
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        """As a channel has it."""
        return f"json://127.0.0.1:{self.server_port}/hook"


def _alone(receiver: Receiver) -> float:
    """Seconds of the sending process, started and ended."""
    message = Message(title="alone", body="x", kind="info", identity="x")
    spent = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        trio.run(send_message, receiver.address, message)
        spent.append(time.monotonic() - began)
    return statistics.median(spent)


def _told(receiver: Receiver) -> list[float]:
    """Seconds from each event to its message."""
    spent = []
    with tempfile.TemporaryDirectory(prefix="orca-bench-") as made, running_node(Path(made), "--no-docker") as node:
        module = BlobDigest("sha256:" + hashlib.sha256(_FAILS).hexdigest())
        node.call("PUT", f"/v1/blobs/{module}", _FAILS, "application/octet-stream")
        channel = json.dumps({"address": receiver.address}).encode()
        until(lambda: node.call("GET", "/v1/ca")["authorities"], "the cluster has its CA", pause_s=0.05)
        node.call("PUT", "/v1/channels/bench", channel)
        for number in range(ROUNDS):
            time.sleep(APART_S)
            name, before = f"fails-{number}", len(receiver.came)
            job = RestartSpec(policy=RestartPolicy.NEVER)
            node.deploy(ServiceSpec(name=ServiceName(name), source=WasmModule(module=module), restart=job))
            until(lambda known=before: len(receiver.came) > known, f"{name} is told", pause_s=0.02)  # type: ignore[misc]
            alerts = node.call("GET", f"/v1/alerts?service=default/{name}&resolved=true")["alerts"]
            since_s = min(one["since_ms"] for one in alerts) / 1000
            spent.append(receiver.came[before][0] - since_s)
            say(f"notices: told after {spent[-1]:.2f} s")
    return spent


def main() -> list[Line]:
    """The time to the first notice."""
    with Receiver() as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        alone = _alone(receiver)
        told = _told(receiver)
        receiver.shutdown()
    return [
        Line(bench="notices", what="from the event to the message, p50", unit="s", result=statistics.median(told),
             limit=alone, limit_name="(sending alone)"),
        Line(bench="notices", what="the same, the slowest", unit="s", result=max(told), goal=GOAL_S,
             is_goal_of_ratio=False),
    ]  # fmt: skip


if __name__ == "__main__":
    show(main())
