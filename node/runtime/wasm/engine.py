"""The engine: its linkers, and the cache of machine code on disk.

wasmtime is imported when the first module is loaded, in a thread: a node without Wasm work
does not pay for it. What compiles is another process (`compiler`).
"""

import atexit
import contextlib
import hashlib
import importlib.util
import os
import platform
import queue
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import outcome
import trio

from node.runtime.wasm.calls import Ticker
from node.runtime.wasm.compiler import (
    COMPONENT_TAG,
    CompileRefusedError,
    CompilerLostError,
    compile_apart,
    first_lines,
    make_engine,
)
from orca.errors import ModuleInvalidError, RuntimeFailedError
from orca.model.spec import WasmWorld

if TYPE_CHECKING:
    import wasmtime
    import wasmtime.component

_CONFIG_TAG: Final = "epoch,pool-or-mmap,cow,stack=512KiB,v2"
"""Names the configuration in cache keys: change it with `compiler.make_engine`."""

_MAGIC: Final = b"orca-aot 1\n"
_DIGEST_BYTES: Final = 32
_PROGRAMS_MAX: Final = 16
"""Programs kept loaded though no instance uses them."""

_HTTP_EXPORT: Final = "wasi:http/incoming-handler@"
_RUN_EXPORT: Final = "wasi:cli/run@"

_NOT_PLAIN: Final = frozenset(("fd_renumber",))
"""With these a module can move its standard streams about, which only the engine can follow."""


class DefineHost(Protocol):
    """Puts our host functions in the place of the engine's."""

    def __call__(self, linker: "wasmtime.Linker", *, has_files: bool) -> None:
        """`has_files` is False for guests that have nothing but their standard streams."""
        ...


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """Compiled code, ready to instantiate in any thread.

    `world` is what the file itself says; a core module that says `COMMAND` serves WAGI
    as well. `pre` is the linked core module, None for a component; `plain_pre` is the
    same with our `stdio` for runs without directories, None where the module does not
    allow it. `export` is the full name of the interface that a component is called by.
    """

    digest: str
    world: WasmWorld
    engine: Any
    module: Any = None
    pre: Any = None
    plain_pre: Any = None
    component: Any = None
    export: str = ""


def installed_version() -> str | None:
    """The version of the installed wasmtime, or None; imports nothing of it."""
    found = importlib.util.find_spec("wasmtime")
    places = (found.submodule_search_locations or []) if found is not None else []
    # Its name says it; `importlib.metadata` would read it from within, and load the parsers of mail and of archives.
    names = [record.name for place in places for record in Path(place).parent.glob("wasmtime-*.dist-info")]
    return names[0].removeprefix("wasmtime-").removesuffix(".dist-info") if len(names) == 1 else None


def cpu_features() -> str:
    """What machine code may depend on: the architecture and the CPU's features."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()} {features}"


def parse_cache_file(content: bytes, key: bytes) -> bytes | None:
    """The machine code in a cache file, or None when it is damaged or made for another key."""
    head = len(_MAGIC) + 2 * _DIGEST_BYTES
    payload = content[head:]
    expected = _MAGIC + key + hashlib.sha256(payload).digest()
    return payload if content[:head] == expected and payload else None


def make_cache_file(payload: bytes, key: bytes) -> bytes:
    """A cache file for `key` with machine code `payload`."""
    return _MAGIC + key + hashlib.sha256(payload).digest() + payload


class WasmEngine:
    """One engine, its linkers, and one thread that loads, and waits for the compiler.

    `load` may be called by many tasks; everything else belongs to the threads.
    """

    def __init__(self, cache_dir: Path, define_host: "DefineHost") -> None:
        self._cache_dir = cache_dir
        self._define_host = define_host
        self._engine: wasmtime.Engine | None = None
        self._linker: wasmtime.Linker | None = None
        self._plain_linker: wasmtime.Linker | None = None
        self._programs: OrderedDict[str, Program] = OrderedDict()
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.ticker = Ticker(self._advance_epoch)
        self.compilations = 0

    async def load(self, digest: str, path: Path) -> Program:
        """The program in the file at `path`, whose content has `digest`.

        From memory, from the cache, or compiled. A cancelled caller leaves the
        compilation running: the next one finds it in the cache. Raises
        `ModuleInvalidError`, and `RuntimeFailedError` when the compiler was ended.
        """
        program = self._programs.get(digest)
        if program is not None:
            self._programs.move_to_end(digest)
            await trio.lowlevel.checkpoint()
            return program
        done = trio.Event()
        results: list[outcome.Outcome[Program]] = []
        token = trio.lowlevel.current_trio_token()

        def work() -> None:
            results.append(outcome.capture(self._load, digest, path))
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="orca-wasm-compile", daemon=True)
            self._thread.start()
        self._queue.put(work)
        await done.wait()
        program = results[0].unwrap()
        self._programs[digest] = program
        while len(self._programs) > _PROGRAMS_MAX:
            self._programs.popitem(last=False)
        return program

    def _serve(self) -> None:
        while True:
            self._queue.get()()

    def _advance_epoch(self) -> None:
        if self._engine is not None:
            self._engine.increment_epoch()

    def _prepare_engine(self) -> "wasmtime.Engine":
        if self._engine is None:
            self._engine = shared_engine()
            self._linker = _make_linker(self._engine)
            self._define_host(self._linker, has_files=True)
            self._plain_linker = _make_linker(self._engine)
            self._define_host(self._plain_linker, has_files=False)
        return self._engine

    def _load(self, digest: str, path: Path) -> Program:
        if digest in self._programs:
            return self._programs[digest]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModuleInvalidError(f"module {digest} cannot be read on this node: {error}") from error
        engine = self._prepare_engine()
        key = hashlib.sha256(
            b"\n".join(
                (
                    hashlib.sha256(content).digest(),
                    str(installed_version()).encode(),
                    _CONFIG_TAG.encode(),
                    cpu_features().encode(),
                )
            )
        ).digest()
        cached = self._load_cached(key)
        compiled = None if cached is None else _deserialize(engine, cached)
        if compiled is None:
            self.compilations += 1
            machine_code = _compile(content)
            self._save(key, machine_code)
            compiled = _deserialize(engine, machine_code)
        if compiled is None:
            raise RuntimeFailedError(f"the machine code of module {digest} does not fit the engine that compiled it")
        assert self._linker is not None, "the linkers are made with the engine"
        assert self._plain_linker is not None, "the linkers are made with the engine"
        return _describe(digest, engine, (self._linker, self._plain_linker), compiled)

    def _cache_path(self, key: bytes) -> Path:
        return self._cache_dir / f"{key.hex()}.cwasm"

    def _load_cached(self, key: bytes) -> bytes | None:
        try:
            content = self._cache_path(key).read_bytes()
        except OSError:
            return None
        return parse_cache_file(content, key)

    def _save(self, key: bytes, machine_code: bytes) -> None:
        """Write the cache file; a full disk costs a compilation next time, nothing else."""
        content = make_cache_file(machine_code, key)
        with contextlib.suppress(OSError):
            self._cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._cache_dir.chmod(0o700)
            descriptor, temporary = tempfile.mkstemp(dir=self._cache_dir)  # mode 0600
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(self._cache_path(key))
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise


_shared: list["wasmtime.Engine"] = []
_shared_lock: Final = threading.Lock()


def shared_engine() -> "wasmtime.Engine":
    """The engine of this process: its pool reserves address space, of which there is not enough for many."""
    with _shared_lock:
        if not _shared:
            _shared.append(make_engine())
            atexit.register(_shared.clear)  # while the binding can still free it
        return _shared[0]


def _make_linker(engine: "wasmtime.Engine") -> "wasmtime.Linker":
    import wasmtime

    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    linker.allow_shadowing = True
    return linker


def _compile(content: bytes) -> bytes:
    """Tagged machine code of `content`; raises `ModuleInvalidError`, `RuntimeFailedError`."""
    try:
        return compile_apart(content)
    except CompileRefusedError as error:
        raise ModuleInvalidError(str(error)) from error
    except CompilerLostError as error:
        raise RuntimeFailedError(f"the compiler of WebAssembly came to no end: {error}") from error


def _deserialize(engine: "wasmtime.Engine", machine_code: bytes) -> Any:
    """The `Module` or `Component` of tagged machine code, None when it was made for another engine."""
    import wasmtime
    import wasmtime.component

    try:
        if machine_code[:1] == COMPONENT_TAG:
            return wasmtime.component.Component.deserialize(engine, machine_code[1:])
        return wasmtime.Module.deserialize(engine, machine_code[1:])
    except wasmtime.WasmtimeError:
        return None


def _describe(
    digest: str, engine: "wasmtime.Engine", linkers: "tuple[wasmtime.Linker, wasmtime.Linker]", compiled: Any
) -> Program:
    """`linkers` are the one for guests with directories and the one for guests without."""
    import wasmtime

    if not isinstance(compiled, wasmtime.Module):
        return _describe_component(digest, engine, compiled)
    if not any(export.name == "_start" for export in compiled.exports):
        raise ModuleInvalidError("the module exports no `_start`; build it as a WASI p1 command (wasm32-wasip1)")
    try:
        pre = linkers[0].instantiate_pre(compiled)
        can_be_plain = not any(import_.name in _NOT_PLAIN for import_ in compiled.imports)
        plain_pre = linkers[1].instantiate_pre(compiled) if can_be_plain else None
    except wasmtime.WasmtimeError as error:
        raise ModuleInvalidError(
            f"the module imports something that WASI p1 does not have: {first_lines(error)}"
        ) from error
    return Program(digest=digest, world=WasmWorld.COMMAND, engine=engine, module=compiled, pre=pre, plain_pre=plain_pre)


def _describe_component(digest: str, engine: "wasmtime.Engine", compiled: "wasmtime.component.Component") -> Program:
    exports = list(compiled.type.exports(engine))
    for world, prefix in ((WasmWorld.HTTP, _HTTP_EXPORT), (WasmWorld.COMMAND, _RUN_EXPORT)):
        for name in exports:
            if name.startswith(f"{prefix}0.2."):
                return Program(digest=digest, world=world, engine=engine, component=compiled, export=name)
    raise ModuleInvalidError(
        "the component exports neither wasi:http/incoming-handler@0.2 nor wasi:cli/run@0.2; "
        f"it exports {', '.join(exports) or 'nothing'}"
    )
