"""Something on this computer that takes webhooks, and says what came."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """`status` is what it answers; `came` has title, body, type and notice of each that it took."""

    def __init__(self) -> None:
        self.status = 200
        self.came: list[dict[str, Any]] = []
        self.refused = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if receiver.status == 200:
                    receiver.came.append({**message, "notice": self.headers["x-orca-notice"]})
                else:
                    receiver.refused += 1
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class has it so
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        """As `orca alerts notify add` takes it; the path is what nobody may see."""
        return f"json://127.0.0.1:{self._server.server_port}/t0ps3cret"

    @property
    def titles(self) -> list[str]:
        return [str(one["title"]).partition("] ")[2] for one in self.came]

    def run(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.run)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.close()
        thread.join()
