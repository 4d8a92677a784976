"""Wasm guests that misbehave: the exact status and reason of each, while another service goes on serving."""

import time
from collections.abc import Iterator

import psutil
import pytest

from tests.integration.node import Node, running_node
from tests.integration.services import HELLO_WAT, module
from tests.integration.traffic import constant_requests, failures
from tests.node.runtime.wasm.guests import (
    EATER,
    HEAD,
    LOOP,
    NO_START,
    OVERFLOW,
    TOO_BIG,
    TRAP,
    UNKNOWN_IMPORT,
    exiting,
    flooding,
)

MEGABYTES = 100
GROWTH_BYTES_MAX = 64 * 2**20
"""What the node may grow by while guests write 100 MB at a time."""

UNREACHABLE = "wasm trap: wasm `unreachable` instruction executed"
LITTLE = '[service.resources]\nmemory = "16Mi"\n'
GUESTS = {
    "traps": (TRAP, ""),
    "loops": (LOOP, 'request_timeout = "1s"'),
    "eats": (EATER, LITTLE),
    "large": (TOO_BIG, LITTLE),
    "deep": (OVERFLOW, ""),
    "floods": (flooding(MEGABYTES, HEAD), ""),
    "headless": (flooding(MEGABYTES), ""),
    "exits": (exiting(9), ""),
}
ANSWERS = {
    "traps": (500, "500 the guest trapped", UNREACHABLE),
    "loops": (504, "504 the guest took too long", "it ran longer than its time limit"),
    "eats": (500, "500 the guest ran out of memory", "out of memory (limit 16777216 bytes)"),
    "large": (500, "500 the guest ran out of memory", "memory minimum size of 8192 pages exceeds memory limits"),
    "deep": (500, "500 the guest trapped", "wasm trap: call stack exhausted"),
    "headless": (502, "502 the guest's output is no response: its head is longer than 65536 bytes", "is no response"),
    "exits": (500, "500 the guest ended with exit code 9 and no answer", "exit code 9"),
}
JOBS = {
    "jobtraps": (TRAP, "", 134, f"exit code 134 (SIGABRT): {UNREACHABLE}"),
    "jobdeep": (OVERFLOW, "", 134, "exit code 134 (SIGABRT): wasm trap: call stack exhausted"),
    "jobexits": (exiting(9), "", 9, "exit code 9"),
    "jobeats": (EATER, LITTLE, 134, f"out of memory (limit 16777216 bytes): {UNREACHABLE} (exit code 134)"),
}
REFUSALS = {
    "cut.wasm": (b"\x00asm\x01\x00\x00\x00 and then no module", "wasmtime refuses the module: failed to parse"),
    "text.wasm": (b"hello, I am a text", "neither a WebAssembly binary nor its text form: expected `(`"),
    "empty.wasm": (b"", "neither a WebAssembly binary nor its text form"),
    "wrong.wat": (b"(module (func (oops", "unknown operator or unexpected token"),
    "flies.wat": (UNKNOWN_IMPORT.encode(), "unknown import: `wasi_snapshot_preview1::fly` has not been defined"),
    "noentry.wat": (NO_START.encode(), "the module exports no `_start`; build it as a WASI p1 command"),
}


@pytest.fixture(scope="module")
def guests() -> Iterator[Node]:
    """A node with all guests, and one that behaves."""
    with running_node(needs_docker=False) as node:
        node.file("good.wat", HELLO_WAT)
        text = module("good", path="good.wat")
        for name, (wat, more) in GUESTS.items():
            node.file(f"{name}.wat", wat)
            text += module(name, path=f"{name}.wat", more=more)
        node.cli("deploy", node.file("service.toml", text)).good()
        yield node


@pytest.fixture(autouse=True)
def _others_are_served(guests: Node) -> Iterator[None]:
    """Whatever a test does, the guest that behaves answers every request meanwhile and after it."""
    with constant_requests(guests, "/good") as answers:
        yield
        count = len(answers)
        assert guests.through_proxy("/good").text == "module\n"
    assert not failures(answers)
    assert count > 0
    assert set(answers) == {"module"}
    assert guests.answers()


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_guest_that_fails_costs_its_own_request_and_says_why(guests: Node, name: str) -> None:
    status, body, reason = ANSWERS[name]
    for _ in range(2):
        reply = guests.through_proxy(f"/{name}")
        assert (reply.status, reply.text.strip()) == (status, body)
    log = guests.cli("logs", name).good().out
    assert log.count(reason) == 2, log
    (copy,) = guests.copies(f"default/{name}")
    assert (copy["phase"], copy["is_ready"], copy["restarts"], copy["reason"]) == ("running", True, 0, "")


def test_guest_that_loops_is_cut_off_at_its_deadline(guests: Node) -> None:
    began = time.monotonic()
    assert guests.through_proxy("/loops").status == 504
    assert 1 <= time.monotonic() - began < 5


def test_guest_that_prints_100_megabytes_sends_them_all_and_the_node_does_not_grow(guests: Node) -> None:
    process = psutil.Process(guests.pid)
    before = process.memory_info().rss
    for _ in range(2):
        reply = guests.through_proxy("/floods", timeout_s=60)
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/plain"
        assert len(reply.body) == MEGABYTES * 2**20
        assert reply.body.count(b"x") == MEGABYTES * 2**20
    assert guests.through_proxy("/headless", timeout_s=60).status == 502
    assert process.memory_info().rss - before < GROWTH_BYTES_MAX
    assert sum(path.stat().st_size for path in (guests.data / "wasm").rglob("*") if path.is_file()) < GROWTH_BYTES_MAX


@pytest.mark.parametrize("name", sorted(JOBS))
def test_job_that_fails_says_how_it_ended(guests: Node, name: str) -> None:
    wat, more, exit_code, reason = JOBS[name]
    guests.file(f"{name}.wat", wat)
    text = f'[[service]]\nname = "{name}"\nruntime = "wasm"\nmodule = "{name}.wat"\nrestart = "never"\n{more}'
    done = guests.cli("deploy", guests.file(f"{name}.toml", text))
    assert done.code == 1, str(done)
    assert f"error: {name}: {name}.1 failed: {reason}" in done.err
    (copy,) = guests.copies(f"default/{name}")
    assert (copy["phase"], copy["exit_code"], copy["reason"], copy["restarts"]) == ("failed", exit_code, reason, 0)
    failed = [one for one in guests.events(service=f"default/{name}") if one["kind"] == "allocation.failed"]
    assert [one["message"] for one in failed] == [f"{name}.1 failed for good: {reason}"]
    assert failed[0]["severity"] == "error"


def test_job_that_prints_100_megabytes_ends_well_and_its_log_is_bounded(guests: Node) -> None:
    guests.file("prints.wat", flooding(MEGABYTES))
    text = '[[service]]\nname = "prints"\nruntime = "wasm"\nmodule = "prints.wat"\nrestart = "never"\n'
    guests.cli("deploy", guests.file("prints.toml", text)).good()
    (copy,) = guests.copies("default/prints")
    assert (copy["phase"], copy["exit_code"], copy["reason"]) == ("completed", 0, "")
    assert 0 < len(guests.cli("--json", "logs", "prints").good().out) < 64 * 2**20
    guests.cli("rm", "-y", "prints").good()


def test_file_that_is_no_module_is_named_with_what_is_wrong(guests: Node) -> None:
    text = ""
    for file, (content, _) in REFUSALS.items():
        guests.file(file, content)
        text += module(file.partition(".")[0], path=file, more='[service.deploy]\ndeadline = "3s"')
    done = guests.cli("--json", "deploy", guests.file("refused.toml", text))
    assert done.code == 1, str(done)
    outcome = done.json()["wait"]
    told = {one["service"]: one for one in outcome["failures"]}
    for file, (_, reason) in REFUSALS.items():
        name = file.partition(".")[0]
        failure = told[f"default/{name}"]
        assert file in failure["message"]
        assert reason in failure["message"]
        (copy,) = failure["unhealthy"]
        assert copy["reason"].startswith(f"{file}: ")
        assert copy["exit_code"] is None
        assert guests.through_proxy(f"/{name}").status == 503
    guests.cli("rm", "-y", *(one.partition(".")[0] for one in REFUSALS)).good()
