# ruff: noqa: ANN001, T201, PTH110 - runs inside the guest, against generated bindings
# mypy: ignore-errors
"""A wasi:http component in Python: says what it was asked. Built by `test_python_component`."""

import json
import os
import random
import sys
import time

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.types import Fields, IncomingBody, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    """The exported interface."""

    def handle(self, request, response_out):
        """Answer one request."""
        path = request.path_with_query()
        incoming = request.consume()
        body = read_all(incoming)
        trailers = IncomingBody.finish(incoming).get()
        print("handling", path, file=sys.stderr)
        if path == "/sleep":
            time.sleep(60)
        if path == "/raise":
            raise ValueError("asked to fail")
        facts = {
            "method": type(request.method()).__name__,
            "path": path,
            "host": request.authority(),
            "allocation": os.environ.get("ORCA_ALLOCATION"),
            "x": [value.decode() for value in request.headers().get("x-a")],
            "length": len(body),
            "has_trailers": trailers not in (None, Ok(Ok(None))),
            "random": random.random(),
            "time": time.time(),
            "files": os.path.exists("/etc/passwd"),
        }
        response = OutgoingResponse(Fields.from_list([("content-type", b"application/json"), ("x-b", b"2")]))
        response.set_status_code(201)
        out = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with out.write() as stream:
            stream.blocking_write_and_flush(json.dumps(facts).encode())
        OutgoingBody.finish(out, None)


def read_all(incoming):
    """The whole request body."""
    body = b""
    with incoming.stream() as stream:
        while True:
            try:
                body += stream.blocking_read(65536)
            except Err:
                return body
