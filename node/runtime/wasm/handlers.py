"""How one request is run by each kind of guest."""

import msgspec

from node.runtime.base import LogStream
from node.runtime.wasm.calls import Call, Outcome
from node.runtime.wasm.engine import Program
from node.runtime.wasm.guest import Setup, run_core
from node.runtime.wasm.listener import Handler
from node.runtime.wasm.logs import AllocationLog
from node.runtime.wasm.sink import Sink
from node.runtime.wasm.wagi import Request, Response, make_environment, parse_response


class WagiHandler:
    """A WASI p1 program, started afresh: request in environment and stdin, response on stdout."""

    def __init__(self, program: Program, setup: Setup, log: AllocationLog) -> None:
        self._program = program
        self._setup = setup
        self._log = log

    def run(self, request: Request, call: Call, sink: Sink) -> Outcome:
        """One run; stderr goes to the log."""
        try:
            env = make_environment(request, self._setup.env)
        except ValueError as error:
            sink.head = Response(status=400, headers=[(b"content-type", b"text/plain; charset=utf-8")])
            sink.write(f"400 {error}\n".encode())
            return Outcome(exit_code=0)
        setup = msgspec.structs.replace(self._setup, env=env, stdin=request.body)
        has_errors = False

        def stderr(piece: bytes) -> None:
            nonlocal has_errors
            has_errors = True
            self._log.write(LogStream.STDERR, piece)

        outcome = run_core(self._program, setup, call, sink.write, stderr)
        if has_errors:
            self._log.flush()
        return outcome

    def read_head(self, sink: Sink, output: bytes, *, is_whole: bool) -> tuple[Response, bytes] | None:
        """The head is the first lines of the output."""
        if sink.head is not None:
            return sink.head, output
        return parse_response(output, is_whole=is_whole)


def make_http_handler(program: Program, setup: Setup, log: AllocationLog) -> Handler:
    """A handler for a component that exports `wasi:http/incoming-handler`."""
    from node.runtime.wasm.http_component import HttpHandler  # needs wasmtime, which is loaded by now

    return HttpHandler(program, setup, log)
