"""Commands, and files that are no proper modules."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from node.runtime.base import InstanceExited, InstanceState, LogStream
from node.runtime.wasm.driver import WasmRuntime
from orca.errors import ModuleInvalidError, RuntimeFailedError
from orca.model.spec import FileSpec, LogSpec, MountKind, MountSpec, PortSpec, WasmWorld
from orca.model.units import Bytes
from tests.contracts.runtime import collect, ignore_progress, launch, running
from tests.node.runtime.wasm import guests
from tests.node.runtime.wasm.guests import WasmSubject

pytestmark = pytest.mark.integration


@pytest.fixture
def subject(tmp_path: Path) -> WasmSubject:
    return WasmSubject(tmp_path)


async def end_of(subject: WasmSubject, source: str, **options: int) -> InstanceExited:
    workload = subject.workload(source, **options)  # type: ignore[arg-type]
    runtime = subject.make()
    async with running(runtime) as recorder:
        await launch(runtime, workload)
        return await recorder.wait_for(InstanceExited, workload.allocation)


@pytest.mark.parametrize(
    ("source", "word", "is_oom"),
    [
        (guests.TRAP, "unreachable", False),
        (guests.OVERFLOW, "call stack exhausted", False),
        (guests.EATER, "out of memory", True),
        (guests.TOO_BIG, "out of memory", True),
    ],
    ids=["trap", "overflow", "eater", "too-big"],
)
async def test_command_that_dies_says_of_what(subject: WasmSubject, source: str, word: str, is_oom: bool) -> None:
    exited = await end_of(subject, source, memory_bytes=32 * 2**20)
    assert (exited.exit_code, exited.is_oom_killed) == (134, is_oom)
    assert word in exited.detail


@pytest.mark.parametrize("source", [guests.LOOP, guests.sleeping(3_600_000)], ids=["loop", "sleep"])
async def test_stop_ends_a_command_that_loops_or_sleeps(subject: WasmSubject, source: str) -> None:
    workload = subject.workload(source)
    runtime = subject.make()
    async with running(runtime):
        await launch(runtime, workload)
        with trio.fail_after(10):
            await runtime.stop(workload.allocation, 5.0)
        assert (await runtime.status(workload.allocation)).exit_code == 143


async def test_command_that_prints_100_mb_leaves_a_bounded_log(subject: WasmSubject) -> None:
    workload = subject.workload(guests.flooding(100))
    log = LogSpec(file_bytes_max=Bytes(200_000), files_max=2)
    workload = msgspec.structs.replace(workload, spec=msgspec.structs.replace(workload.spec, log=log))
    runtime = subject.make()
    async with running(runtime) as recorder:
        await launch(runtime, workload)
        assert (await recorder.wait_for(InstanceExited, workload.allocation)).exit_code == 0
        directory = subject.directory / "cache" / "logs" / workload.allocation
        assert sum(file.stat().st_size for file in directory.iterdir()) <= 2 * 200_000
        assert len(await collect(runtime, workload.allocation, tail=3)) == 3


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"hello, I am text", "neither"),
        (b"", "neither"),
        (b"\0asm\x01\0\0\0\xff\xff\xff", "refuses"),
        (b"\0asm\x01\0", "refuses"),
        (bytes(range(256)) * 10, "neither"),
        (guests.UNKNOWN_IMPORT.encode(), "fly"),
        (guests.NO_START.encode(), "_start"),
        (b"(component)", "exports"),
    ],
    ids=["text", "empty", "garbage", "truncated", "noise", "unknown-import", "no-start", "bare-component"],
)
async def test_file_that_cannot_be_run_is_refused_when_it_is_prepared(
    subject: WasmSubject, content: bytes, word: str
) -> None:
    runtime = subject.make()
    async with running(runtime):
        with pytest.raises(ModuleInvalidError, match=word):
            await runtime.prepare(subject.workload(content), ignore_progress)


async def test_world_that_the_file_cannot_be_run_as_is_refused(subject: WasmSubject) -> None:
    runtime = subject.make()
    async with running(runtime):
        with pytest.raises(ModuleInvalidError, match="command or wagi"):
            await runtime.prepare(subject.workload(guests.TRAP, world=WasmWorld.HTTP), ignore_progress)


def compilations(runtime: WasmRuntime) -> int:
    return runtime._engine.compilations


async def prepare_anew(subject: WasmSubject, content: str) -> int:
    runtime = subject.make()
    async with running(runtime):
        await runtime.prepare(subject.workload(content), ignore_progress)
    return compilations(runtime)


async def test_machine_code_is_cached_privately_and_a_damaged_file_is_compiled_again(subject: WasmSubject) -> None:
    assert await prepare_anew(subject, guests.ECHO) == 1
    assert await prepare_anew(subject, guests.ECHO) == 0
    (cached,) = (subject.directory / "cache" / "aot").iterdir()
    assert cached.stat().st_mode & 0o777 == 0o600
    assert cached.parent.stat().st_mode & 0o777 == 0o700
    good = cached.read_bytes()
    for bad in (b"", good[: len(good) // 2], good[:-1] + bytes([good[-1] ^ 1]), b"x" * len(good)):
        cached.write_bytes(bad)
        assert await prepare_anew(subject, guests.ECHO) == 1
        assert cached.read_bytes()[:100] == good[:100]
    assert await prepare_anew(subject, guests.ECHO) == 0


async def test_mounts_are_preopened_and_what_cannot_be_mounted_is_refused(subject: WasmSubject) -> None:
    files = subject.directory / "files"
    files.mkdir()
    (files / "0").write_text("content")
    workload = subject.workload(PREOPENS)
    mounts = (
        MountSpec(target="/data", source="box"),
        MountSpec(target="/host", source=str(files), kind=MountKind.BIND, read_only=True),
        MountSpec(target="/tmp", kind=MountKind.TMPFS),
    )
    spec = msgspec.structs.replace(
        workload.spec, mounts=mounts, files=(FileSpec(target="/etc/app/a.toml", content=subject.blob("x")),)
    )
    workload = msgspec.structs.replace(workload, spec=spec, files_dir=str(files))
    runtime = subject.make()
    async with running(runtime) as recorder:
        await launch(runtime, workload)
        exited = await recorder.wait_for(InstanceExited, workload.allocation)
        assert exited.exit_code == 4, "the number of preopened directories"
        assert (subject.directory / "volumes" / "default" / "box").is_dir()
        bad = MountSpec(target="/x", source="../up")
        spec = msgspec.structs.replace(spec, mounts=(bad,), files=())
        other = msgspec.structs.replace(subject.workload(PREOPENS), spec=spec)
        await runtime.create(other)
        with pytest.raises(RuntimeFailedError, match="volume name"):
            await runtime.start(other.allocation)
        assert (await runtime.status(other.allocation)).state is InstanceState.CREATED


PREOPENS = """(module
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $fd i32)
    (local.set $fd (i32.const 3))
    (block $end (loop $next
      (br_if $end (call $prestat (local.get $fd) (i32.const 0)))
      (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
      (br $next)))
    (call $exit (i32.sub (local.get $fd) (i32.const 3)))))"""

RUN_COMPONENT = """(component
  (core module $code (func (export "run") (result i32) (i32.const RESULT)))
  (core instance $code (instantiate $code))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exported)))"""


@pytest.mark.parametrize("code", [0, 1])
async def test_component_with_cli_run_is_a_command_even_with_ports(subject: WasmSubject, code: int) -> None:
    workload = subject.workload(RUN_COMPONENT.replace("RESULT", str(code)), ports=(PortSpec(port=80),))
    runtime = subject.make()
    async with running(runtime) as recorder:
        await launch(runtime, workload)
        assert (await recorder.wait_for(InstanceExited, workload.allocation)).exit_code == code


async def test_log_is_still_there_for_the_next_process_and_gone_after_removal(subject: WasmSubject) -> None:
    workload = subject.printing(("one",))
    for count in (1, 2):
        runtime = subject.make()
        async with running(runtime) as recorder:
            await launch(runtime, workload)
            await recorder.wait_for(InstanceExited, workload.allocation)
            lines = await collect(runtime, workload.allocation)
            assert [x.text for x in lines if x.stream is LogStream.STDOUT] == ["one"] * count
            if count == 2:
                await runtime.remove(workload.allocation)
    assert not (subject.directory / "cache" / "logs" / workload.allocation).exists()


def test_runtime_object_without_work_does_not_import_wasmtime() -> None:
    """The binding and its library cost a node some 15 MB that many nodes never need."""
    code = "import sys; import node.runtime.wasm.driver; sys.exit('wasmtime' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0
