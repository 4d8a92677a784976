"""Guests of the tests, in text form, and a subject that runs them."""

import hashlib
import itertools
import time
from pathlib import Path

import msgspec

from node.runtime.base import Workload
from node.runtime.wasm.driver import WasmRuntime
from orca.errors import ModuleInvalidError, RuntimeFailedError
from orca.model.ids import (
    AllocationId,
    BlobDigest,
    ClusterId,
    NodeId,
    ServiceId,
    ServiceName,
    SpecRevision,
)
from orca.model.spec import PortSpec, Resources, ServiceSpec, WasmModule, WasmWorld
from orca.model.units import Bytes, Instant, WallMs

HELLO = Path(__file__).parents[4] / "orca" / "examples" / "hello" / "hello.wat"

IMPORTS = """
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
"""

SAY = """
  (func $say (param $stream i32) (param $from i32) (param $length i32)
    (local $done i32)
    (loop $more
      (i32.store (i32.const 0) (i32.add (local.get $from) (local.get $done)))
      (i32.store (i32.const 4) (i32.sub (local.get $length) (local.get $done)))
      (if (call $fd_write (local.get $stream) (i32.const 0) (i32.const 1) (i32.const 8)) (then (return)))
      (local.set $done (i32.add (local.get $done) (i32.load (i32.const 8))))
      (br_if $more (i32.lt_u (local.get $done) (local.get $length)))))
"""

HEAD = "content-type: text/plain\n\n"

TRAP = '(module (memory (export "memory") 1) (func (export "_start") unreachable))'
LOOP = '(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'
OVERFLOW = '(module (memory (export "memory") 1) (func $f (export "_start") (call $f)))'
EATER = """(module (memory (export "memory") 1)
  (func (export "_start")
    (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable))"""
TOO_BIG = '(module (memory (export "memory") 8192) (func (export "_start")))'
UNKNOWN_IMPORT = '(module (import "wasi_snapshot_preview1" "fly" (func)) (func (export "_start")))'
NO_START = '(module (func (export "run")))'


def escape(text: str) -> str:
    """`text` as the inside of a WAT string."""
    return "".join(f"\\{byte:02x}" for byte in text.encode())


def program(body: str, data: str = "", *, pages: int = 4) -> str:
    """A module whose `_start` is `body`, with `data` at address 1024 and `$say`."""
    return f"""(module {IMPORTS}
  (memory (export "memory") {pages})
  (data (i32.const 1024) "{escape(data)}")
  {SAY}
  (func (export "_start") (local $i i32) {body}))"""


def say(text: str, *, stream: int = 1, at: int = 1024) -> str:
    """A call that writes the `text` that lies at `at`."""
    return f"(call $say (i32.const {stream}) (i32.const {at}) (i32.const {len(text.encode())}))"


def answer(text: str) -> str:
    """A WAGI program that writes `text`, whatever is asked."""
    return program(say(text), text, pages=2 + len(text) // 65536)


def exiting(code: int) -> str:
    """A command that ends with `code`."""
    return program(f"(call $proc_exit (i32.const {code}))")


def printing(lines: tuple[str, ...]) -> str:
    """A command that prints `lines` to stdout and `last` to stderr."""
    text = "".join(f"{line}\n" for line in lines)
    body = say(text) + say("last\n", stream=2, at=1024 + len(text.encode()))
    return program(body, text + "last\n", pages=2 + len(text.encode()) // 65536)


def flooding(megabytes: int, head: str = "") -> str:
    """A program that writes `head` and then that much `x`, 64 KiB at a time."""
    return program(
        say(head, at=1024)
        + "(memory.fill (i32.const 65536) (i32.const 120) (i32.const 65536))"
        + f"""(loop $again
            (call $say (i32.const 1) (i32.const 65536) (i32.const 65536))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const {megabytes * 16}))))""",
        head,
    )


def sleeping(milliseconds: int, text: str = "") -> str:
    """A program that sleeps in `poll_oneoff`, then writes `text`."""
    nanoseconds = milliseconds * 1_000_000
    return program(
        f"""(i32.store (i32.const 216) (i32.const 1))
        (i64.store (i32.const 224) (i64.const {nanoseconds}))
        (drop (call $poll (i32.const 200) (i32.const 300) (i32.const 1) (i32.const 400)))"""
        + (say(text) if text else ""),
        text,
    )


ECHO = program(
    say(HEAD)
    + """(block $end (loop $again
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (i32.const 65536))
      (br_if $end (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
      (br_if $end (i32.eqz (i32.load (i32.const 16))))
      (call $say (i32.const 1) (i32.const 65536) (i32.load (i32.const 16)))
      (br $again)))""",
    HEAD,
)


class RealClock:
    """The computer's clocks."""

    def now(self) -> Instant:
        return Instant(time.monotonic())

    def wall(self) -> WallMs:
        return WallMs(time.time_ns() // 1_000_000)


class WasmSubject:
    """What the contract suite and the tests here run on; everything under `directory`."""

    has_exec = False
    has_adoption = False
    answers_http = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.blobs = directory / "blobs"
        self.blobs.mkdir()
        self._numbers = itertools.count(1)

    def make(self) -> WasmRuntime:
        return WasmRuntime(
            ClusterId("c-test"),
            NodeId("n-test"),
            RealClock(),
            cache_dir=self.directory / "cache",
            read_blob=self.read_blob,
        )

    def read_blob(self, digest: BlobDigest) -> Path:
        return self.blobs / digest.partition(":")[2]

    def blob(self, content: str | bytes) -> BlobDigest:
        raw = content.encode() if isinstance(content, str) else content
        digest = hashlib.sha256(raw).hexdigest()
        (self.blobs / digest).write_bytes(raw)
        return BlobDigest(f"sha256:{digest}")

    def workload(
        self,
        content: str | bytes,
        *,
        ports: tuple[PortSpec, ...] = (),
        world: WasmWorld = WasmWorld.AUTO,
        timeout_s: float = 10.0,
        memory_bytes: int | None = None,
        spec: ServiceSpec | None = None,
        args: tuple[str, ...] = (),
    ) -> Workload:
        number = next(self._numbers)
        source = WasmModule(
            module=self.blob(content), name="guest.wat", world=world, request_timeout_s=timeout_s, args=args
        )
        resources = Resources(memory_bytes=None if memory_bytes is None else Bytes(memory_bytes))
        base = spec or ServiceSpec(name=ServiceName("web"), source=source)
        return Workload(
            allocation=AllocationId(f"alloc{number:07d}"),
            service=ServiceId("default/web"),
            revision=SpecRevision(1),
            template=f"template-{number}",
            slot=0,
            cluster=ClusterId("c-test"),
            node=NodeId("n-test"),
            spec=msgspec.structs.replace(base, source=source, ports=ports or base.ports, resources=resources),
        )

    def serving(self) -> Workload:
        return self.workload(HELLO.read_text(), ports=(PortSpec(port=80), PortSpec(port=8080)))

    def exiting(self, exit_code: int) -> Workload:
        return self.workload(exiting(exit_code))

    def printing(self, lines: tuple[str, ...]) -> Workload:
        return self.workload(printing(lines))

    def crashing(self) -> Workload:
        return self.workload(TRAP)

    def unpreparable(self) -> tuple[Workload, type[RuntimeFailedError]]:
        workload = self.workload("")
        self.read_blob(workload.spec.source.module).unlink()  # type: ignore[union-attr]
        return workload, ModuleInvalidError
