"""Our `fd_write` and `fd_close` against the engine's own: the same module is run on both."""

import msgspec
import pytest
import wasmtime

from node.runtime.wasm import compiler, engine, stdio
from node.runtime.wasm.calls import Call, Outcome, StopReason
from node.runtime.wasm.engine import Program
from node.runtime.wasm.guest import Setup, define_host, run_core

pytestmark = pytest.mark.integration

SETUP = Setup(args=("guest",), env={})
DATA = 'data (i32.const 256) "hello world"'


def machine_code(shared: wasmtime.Engine, source: str) -> wasmtime.Module:
    module = engine._deserialize(shared, compiler.compile_here(source.encode()))
    assert isinstance(module, wasmtime.Module)
    return module


def make_program(body: str, *, extra: str = "", pages: int = 1) -> Program:
    source = f"""(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      {extra}
      (memory (export "memory") {pages})
      ({DATA})
      (func (export "_start") {body}))"""
    shared = engine.shared_engine()
    linkers = (engine._make_linker(shared), engine._make_linker(shared))
    define_host(linkers[0], has_files=True)
    define_host(linkers[1], has_files=False)
    return engine._describe("d", shared, linkers, machine_code(shared, source))


def run(program: Program, call: Call | None = None) -> tuple[Outcome, bytes, bytes]:
    stdout: list[bytes] = []
    stderr: list[bytes] = []
    outcome = run_core(program, SETUP, call or Call(10.0), stdout.append, stderr.append)
    return outcome, b"".join(stdout), b"".join(stderr)


def run_both(body: str) -> list[tuple[int, bool, bytes, bytes]]:
    """Exit code, whether it trapped, output and errors: on the engine's functions, then on ours."""
    program = make_program(body)
    assert program.plain_pre is not None
    results = []
    for each in (msgspec.structs.replace(program, plain_pre=None), program):
        outcome, stdout, stderr = run(each)
        results.append((outcome.exit_code, outcome.is_trap, stdout, stderr))
    return results


def store(*words: int) -> str:
    """Words from address 16 on: the vectors of a write."""
    return "".join(
        f"(i32.store (i32.const {at}) (i32.const {word}))" for at, word in zip(range(16, 1000, 4), words, strict=False)
    )


def write(stream: int, vectors: int = 16, count: int = 1, written: int = 64) -> str:
    return f"(call $write (i32.const {stream}) (i32.const {vectors}) (i32.const {count}) (i32.const {written}))"


def close(stream: int) -> str:
    return f"(call $close (i32.const {stream}))"


def leave(value: str) -> str:
    return f"(call $exit {value})"


HELLO = store(256, 5)
WRITTEN = "(i32.load (i32.const 64))"
CASES = {
    "stdout": HELLO + leave(write(1)),
    "stderr": HELLO + leave(write(2)),
    "count-is-told": HELLO + f"(drop {write(1)})" + leave(WRITTEN),
    "two-writes": HELLO + f"(drop {write(1)})(drop {write(2)})" + leave(write(1)),
    "no-vector": HELLO + leave(write(1, count=0)),
    "empty-vector": store(256, 0) + leave(write(1)),
    "empty-vector-far-away": store(0x7FFFFFFF, 0) + leave(write(1)),
    "empty-then-full": store(256, 0, 261, 6) + leave(write(1, count=2)),
    "whole-memory": store(0, 65536) + f"(drop {write(1)})" + leave(f"(i32.shr_u {WRITTEN} (i32.const 10))"),
    "stdin": HELLO + leave(write(0)),
    "never-open": HELLO + leave(write(3)),
    "negative-stream": HELLO + leave(write(-1)),
    "never-open-and-vectors-outside": HELLO + leave(write(3, vectors=65536)),
    "never-open-and-count-outside": HELLO + leave(write(3, written=65534)),
    "vectors-outside": HELLO + leave(write(1, vectors=65532)),
    "vectors-not-aligned": HELLO + leave(write(1, vectors=17)),
    "text-outside": store(65530, 50) + leave(write(1)),
    "text-wraps-around": store(0xFFFFFFFF - 2**32, 50) + leave(write(1)),
    "closed-stdout": HELLO + f"(drop {close(1)})" + leave(write(1)),
    "closed-stdout-leaves-stderr": HELLO + f"(drop {close(1)})" + leave(write(2)),
    "close": leave(close(1)),
    "close-stdin": leave(close(0)),
    "close-twice": f"(drop {close(2)})" + leave(close(2)),
    "close-never-open": leave(close(3)),
    "close-negative": leave(close(-1)),
}


@pytest.mark.parametrize("body", CASES.values(), ids=CASES.keys())
def test_guest_sees_what_the_engine_would_show(body: str) -> None:
    of_engine, ours = run_both(body)
    assert ours == of_engine


@pytest.mark.parametrize("written", [65534, 65, 0xFFFFFFFC - 2**32])
def test_count_that_cannot_be_told_traps_before_anything_is_written(written: int) -> None:
    outcome, stdout, _ = run(make_program(HELLO + leave(write(1, written=written))))
    assert (outcome.is_trap, stdout) == (True, b"")


def test_more_vectors_than_memory_can_hold_trap() -> None:
    outcome, stdout, _ = run(make_program(HELLO + leave(write(1, count=-1))))
    assert (outcome.is_trap, stdout) == (True, b"")


def test_one_write_takes_all_its_vectors() -> None:
    outcome, stdout, _ = run(make_program(store(256, 5, 261, 6) + f"(drop {write(1, count=2)})" + leave(WRITTEN)))
    assert (outcome.exit_code, stdout) == (11, b"hello world")


def test_write_of_very_many_vectors_is_a_partial_one() -> None:
    fill = """(local $at i32)
      (local.set $at (i32.const 1024))
      (loop $more
        (i32.store (local.get $at) (i32.const 256))
        (i32.store (i32.add (local.get $at) (i32.const 4)) (i32.const 1))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $more (i32.lt_u (local.get $at) (i32.const 41024))))"""
    body = fill + f"(drop {write(1, vectors=1024, count=5000)})" + leave(f"(i32.shr_u {WRITTEN} (i32.const 4))")
    outcome, stdout, _ = run(make_program(body))
    assert (outcome.exit_code, stdout) == (64, b"h" * 1024)


def test_long_write_is_handed_on_in_pieces_and_ends_when_the_call_must_stop() -> None:
    program = make_program(store(0, 16 * 65536) + leave(write(1)), pages=16)
    call = Call(10.0)
    pieces: list[int] = []

    def take(piece: bytes) -> None:
        pieces.append(len(piece))
        if len(pieces) == 3:
            call.interrupt(StopReason.STOPPED)

    outcome = run_core(program, SETUP, call, take, take)
    assert pieces == [stdio.PIECE_BYTES_MAX] * 3
    assert outcome.reason is StopReason.STOPPED


def test_streams_of_one_run_are_not_those_of_the_next() -> None:
    program = make_program(HELLO + f"(drop {write(1)})" + leave(close(1)))
    assert [run(program)[:2][1] for _ in range(3)] == [b"hello"] * 3
    assert [run(program)[0].exit_code for _ in range(3)] == [0] * 3


def test_output_that_cannot_be_taken_is_an_error_of_the_write(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(_piece: bytes) -> None:
        raise OSError("the disk is full")

    outcome = run_core(make_program(HELLO + leave(write(1))), SETUP, Call(10.0), refuse, refuse)
    assert outcome.exit_code == 29
    assert "the disk is full" in capsys.readouterr().err


def test_module_that_moves_its_streams_about_is_left_to_the_engine() -> None:
    move = '(import "wasi_snapshot_preview1" "fd_renumber" (func $move (param i32 i32) (result i32)))'
    program = make_program(HELLO + f"(drop (call $move (i32.const 2) (i32.const 1))) (drop {write(1)})", extra=move)
    assert program.plain_pre is None
    outcome, stdout, stderr = run(program)
    assert (outcome.exit_code, stdout, stderr) == (0, b"", b"hello")


def test_module_without_a_memory_to_read_from_traps() -> None:
    program = make_program(HELLO + leave(write(1)))
    assert not run(program)[0].is_trap
    hidden = """(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory 1)
      (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
    shared = engine.shared_engine()
    linker = engine._make_linker(shared)
    define_host(linker, has_files=False)
    outcome, _, _ = run(engine._describe("d", shared, (linker, linker), machine_code(shared, hidden)))
    assert outcome.is_trap
    assert "memory" in outcome.detail
