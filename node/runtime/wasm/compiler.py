"""Compiles one module in a process of its own: `python compiler.py < module > machine code`.

The compiler needs many times the module's size in memory, and its own pages stay with whoever used it once. In a
process that ends all of that goes back, and a module that breaks the compiler, or needs more memory than there is,
takes nothing down. That costs a tenth of a second, once for each content.

The program imports nothing but wasmtime, and no module of this package: it is started by its path.
"""

import mmap
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import wasmtime

WASM_MAGIC: Final = b"\0asm"
MODULE_TAG: Final = b"m"
COMPONENT_TAG: Final = b"c"
"""What machine code of a module, or of a component, begins with."""

_COMPONENT_LAYER: Final = b"\x01\x00"
_SLOT_BYTES: Final = 4 * 2**30
_POOL_MEMORIES: Final = 256
"""Instances at once, more or less: guest threads, commands, and the several memories of components."""
_NICENESS: Final = 10
_REFUSED: Final = 65
"""Exit code (EX_DATAERR): what is wrong with the module stands on standard output."""
_WORDS_MAX: Final = 500


class CompileRefusedError(Exception):
    """The module is none that can be compiled; says why."""


class CompilerLostError(Exception):
    """The compiler came to no end of its own; says how it ended."""


def compile_apart(content: bytes) -> bytes:
    """The tagged machine code of `content`, a binary or its text form. Blocks while another process works.

    Raises CompileRefusedError, CompilerLostError.
    """
    command = [sys.executable, "-P", __file__]  # -P: the folder of this file is no place for imports
    try:
        done = subprocess.run(command, input=content, capture_output=True, check=False)  # noqa: S603 - our own program
    except OSError as error:
        raise CompilerLostError(f"it cannot be started: {error}") from error
    if done.returncode == _REFUSED:
        raise CompileRefusedError(done.stdout.decode(errors="replace"))
    if done.returncode < 0:
        raise CompilerLostError(f"signal {-done.returncode} ended it; is there enough memory?")
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CompilerLostError(f"exit code {done.returncode}: {last[:_WORDS_MAX]}")
    return done.stdout


def is_component(binary: bytes) -> bool:
    """Whether `binary` says that it is a component and not a core module."""
    return binary[:4] == WASM_MAGIC and binary[6:8] == _COMPONENT_LAYER


def first_lines(error: Exception) -> str:
    """The engine's words on one line, at most 500 characters."""
    return " ".join(str(error).split())[:_WORDS_MAX]


def make_engine() -> "wasmtime.Engine":
    """An engine as nodes use it: machine code fits only the configuration that it was made for."""
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


def compile_here(content: bytes, *, niceness: int = 0) -> bytes:
    """The tagged machine code of `content`. Raises CompileRefusedError.

    `niceness` is added to that of this thread for what may take seconds: a courtesy to what runs already.
    """
    import wasmtime
    import wasmtime.component

    try:
        binary = content if content.startswith(WASM_MAGIC) else bytes(wasmtime.wat2wasm(content))
    except wasmtime.WasmtimeError as error:
        raise CompileRefusedError(
            f"the file is neither a WebAssembly binary nor its text form: {first_lines(error)}"
        ) from error
    engine = make_engine()
    os.nice(niceness)
    try:
        if is_component(binary):
            return COMPONENT_TAG + bytes(wasmtime.component.Component(engine, binary).serialize())
        return MODULE_TAG + bytes(wasmtime.Module(engine, binary).serialize())
    except wasmtime.WasmtimeError as error:
        raise CompileRefusedError(f"wasmtime refuses the module: {first_lines(error)}") from error


def main() -> int:
    """Compile what comes on standard input; the exit code."""
    try:
        code, result = 0, compile_here(sys.stdin.buffer.read(), niceness=_NICENESS)
    except CompileRefusedError as error:
        code, result = _REFUSED, str(error).encode()
    sys.stdout.buffer.write(result)
    sys.stdout.buffer.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
