"""The engine: configuration, compilation, and the cache of machine code on disk.

wasmtime is imported by the first compilation, in its thread: a node without Wasm work
does not pay for it.
"""

import atexit
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import mmap
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
from orca.errors import ModuleInvalidError
from orca.model.spec import WasmWorld

if TYPE_CHECKING:
    import wasmtime
    import wasmtime.component

_CONFIG_TAG: Final = "epoch,pool-or-mmap,cow,stack=512KiB,v2"
"""Names the configuration in cache keys: change it with `_make_engine`."""

_MAGIC: Final = b"orca-aot 1\n"
_DIGEST_BYTES: Final = 32
_PROGRAMS_MAX: Final = 16
"""Programs kept loaded though no instance uses them."""

_SLOT_BYTES: Final = 4 * 2**30
_POOL_MEMORIES: Final = 256
"""Instances at once, more or less: guest threads, commands, and the several memories of components."""

_WASM_MAGIC: Final = b"\0asm"
_CORE_VERSION: Final = b"\x01\x00\x00\x00"
_COMPONENT_LAYER: Final = b"\x01\x00"

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
    if importlib.util.find_spec("wasmtime") is None:
        return None
    try:
        return importlib.metadata.version("wasmtime")
    except importlib.metadata.PackageNotFoundError:
        return None


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


def is_component(binary: bytes) -> bool:
    """Whether `binary` says that it is a component and not a core module."""
    return binary[:4] == _WASM_MAGIC and binary[6:8] == _COMPONENT_LAYER


class WasmEngine:
    """One engine, its linkers, and one compiler thread of low priority.

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
        `ModuleInvalidError`.
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
        with contextlib.suppress(OSError, AttributeError):  # a courtesy to what runs already; threads have their own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
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
        compiled = self._load_cached(engine, key)
        if compiled is None:
            self.compilations += 1
            compiled = _compile(engine, content)
            self._save(key, compiled)
        assert self._linker is not None, "the linkers are made with the engine"
        assert self._plain_linker is not None, "the linkers are made with the engine"
        return _describe(digest, engine, (self._linker, self._plain_linker), compiled)

    def _cache_path(self, key: bytes) -> Path:
        return self._cache_dir / f"{key.hex()}.cwasm"

    def _load_cached(self, engine: "wasmtime.Engine", key: bytes) -> Any:
        import wasmtime
        import wasmtime.component

        try:
            content = self._cache_path(key).read_bytes()
        except OSError:
            return None
        payload = parse_cache_file(content, key)
        if payload is None:
            return None
        try:
            if payload[:1] == b"c":
                return wasmtime.component.Component.deserialize(engine, payload[1:])
            return wasmtime.Module.deserialize(engine, payload[1:])
        except wasmtime.WasmtimeError:
            return None

    def _save(self, key: bytes, compiled: Any) -> None:
        """Write the cache file; a full disk costs a compilation next time, nothing else."""
        import wasmtime

        tag = b"m" if isinstance(compiled, wasmtime.Module) else b"c"
        content = make_cache_file(tag + bytes(compiled.serialize()), key)
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
            _shared.append(_make_engine())
            atexit.register(_shared.clear)  # while the binding can still free it
        return _shared[0]


def _make_engine() -> "wasmtime.Engine":
    import wasmtime

    config = wasmtime.Config()
    config.epoch_interruption = True
    config.max_wasm_stack = 512 * 1024
    config.memory_init_cow = True
    if _may_reserve():
        _use_pool(config)
    return wasmtime.Engine(config)


def _may_reserve() -> bool:
    """Whether the pool's address space can be had; asked first, because the engine aborts when it cannot.

    The pool reserves some TiB and uses next to nothing of it.
    """
    flags = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0) | getattr(mmap, "MAP_NORESERVE", 0x4000)
    try:
        mmap.mmap(-1, 4 * _POOL_MEMORIES * _SLOT_BYTES, flags=flags, prot=0).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _use_pool(config: "wasmtime.Config") -> None:
    """Reuse memories, tables and instances: a fresh instance costs a fifth less than with mmap each time."""
    from wasmtime import _ffi as ffi  # the binding has no class for it

    pool = ffi.wasmtime_pooling_allocation_config_new()
    ffi.wasmtime_pooling_allocation_config_total_memories_set(pool, _POOL_MEMORIES)
    ffi.wasmtime_pooling_allocation_config_total_tables_set(pool, 4 * _POOL_MEMORIES)
    ffi.wasmtime_pooling_allocation_config_table_elements_set(pool, 100_000)
    ffi.wasmtime_pooling_allocation_config_total_core_instances_set(pool, 16 * _POOL_MEMORIES)
    ffi.wasmtime_pooling_allocation_config_total_component_instances_set(pool, _POOL_MEMORIES)
    ffi.wasmtime_pooling_allocation_config_max_memories_per_module_set(pool, 8)
    ffi.wasmtime_pooling_allocation_config_max_tables_per_module_set(pool, 16)
    ffi.wasmtime_pooling_allocation_config_max_core_instances_per_component_set(pool, 200)
    ffi.wasmtime_pooling_allocation_config_max_memories_per_component_set(pool, 32)
    ffi.wasmtime_pooling_allocation_config_max_tables_per_component_set(pool, 200)
    ffi.wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(pool, 128 * 1024)
    ffi.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
    ffi.wasmtime_pooling_allocation_config_delete(pool)


def _make_linker(engine: "wasmtime.Engine") -> "wasmtime.Linker":
    import wasmtime

    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    linker.allow_shadowing = True
    return linker


def _compile(engine: "wasmtime.Engine", content: bytes) -> Any:
    """A `Module` or a `Component` of binary or text `content`; raises `ModuleInvalidError`."""
    import wasmtime
    import wasmtime.component

    try:
        binary = content if content.startswith(_WASM_MAGIC) else bytes(wasmtime.wat2wasm(content))
    except wasmtime.WasmtimeError as error:
        raise ModuleInvalidError(
            f"the file is neither a WebAssembly binary nor its text form: {_first_lines(error)}"
        ) from error
    try:
        if is_component(binary):
            return wasmtime.component.Component(engine, binary)
        return wasmtime.Module(engine, binary)
    except wasmtime.WasmtimeError as error:
        raise ModuleInvalidError(f"wasmtime refuses the module: {_first_lines(error)}") from error


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
            f"the module imports something that WASI p1 does not have: {_first_lines(error)}"
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


def _first_lines(error: Exception) -> str:
    """The engine's words on one line, at most 500 characters."""
    return " ".join(str(error).split())[:500]
