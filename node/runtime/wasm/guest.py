"""One run of a WASI p1 module or of a `wasi:cli/run` component, in the calling thread.

Speaks to the C interface of wasmtime where the binding's own classes are slower or
share tables between threads without a lock (custom output streams).
"""

import ctypes
import itertools
import struct
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from node.runtime.wasm.calls import Call, Outcome, Output, StopReason, current
from node.runtime.wasm.engine import Program
from node.runtime.wasm.stdio import WASI, Stdio, make_streams

if TYPE_CHECKING:
    import wasmtime

MEMORY_BYTES_DEFAULT: Final = 256 * 2**20
"""The limit of a spec that names none: guests share the node's process."""

EXIT_TRAP: Final = 134
EXIT_STOPPED: Final = 143
EXIT_ABANDONED: Final = 137

_TABLE_ELEMENTS_MAX: Final = 1_000_000
_INSTANCES_MAX: Final = 1_000
_ERRNO_INVAL: Final = 28
_ERRNO_FAULT: Final = 21
_SUBSCRIPTION_BYTES: Final = 48
_EVENT_BYTES: Final = 32
_SUBSCRIPTIONS_MAX: Final = 4096
_CLOCK: Final = 0
_CLOCK_REALTIME: Final = 0
_ABSOLUTE: Final = 1


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """A directory of the node that the guest sees as `target`."""

    source: str
    target: str
    is_read_only: bool = False


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest is started with."""

    args: tuple[str, ...]
    env: Mapping[str, str]
    stdin: bytes = b""
    mounts: tuple[Mount, ...] = ()
    memory_bytes_max: int = MEMORY_BYTES_DEFAULT


class _Native:
    """Callbacks for the C interface, made once wasmtime is imported.

    Numbers stand for Python objects on the other side; `outputs` and `calls` are only
    ever changed by single dict operations, which are atomic.
    """

    def __init__(self) -> None:
        from wasmtime import _ffi as ffi  # the binding's own layer; its classes are built on it

        self.ffi: Any = ffi
        self.numbers = itertools.count(1)
        self.outputs: dict[int, Output] = {}
        self.calls: dict[int, Call] = {}
        self.nothing: Any = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))
        output_type = ctypes.CFUNCTYPE(
            ctypes.c_ssize_t, ctypes.c_void_p, ctypes.POINTER(ctypes.c_ubyte), ctypes.c_size_t
        )
        epoch_type = ctypes.CFUNCTYPE(
            ctypes.c_size_t,
            ctypes.POINTER(ffi.wasmtime_context_t),
            ctypes.c_void_p,
            ctypes.POINTER(ctypes.c_uint64),
            ctypes.POINTER(ffi.wasmtime_update_deadline_kind_t),
        )
        self.on_output: Any = output_type(self._on_output)
        self.on_epoch: Any = epoch_type(self._on_epoch)
        self.stdio = Stdio(ffi)

    def _on_output(self, number: int | None, pointer: Any, size: int) -> int:
        try:
            output = self.outputs.get(number or 0)
            if output is not None and size:
                output(ctypes.string_at(pointer, size))
        except Exception as error:  # noqa: BLE001 - nothing may be raised into native code
            print(f"orca: a guest's output was lost: {error!r}", file=sys.stderr)  # noqa: T201
        return size

    def _on_epoch(self, _context: Any, number: int | None, delta: Any, kind: Any) -> int:
        call = self.calls.get(number or 0)
        if call is None or call.must_stop():
            error = self.ffi.wasmtime_error_new(b"interrupted")
            return ctypes.cast(error, ctypes.c_void_p).value or 0
        delta[0] = 1
        kind[0] = 0  # go on
        return 0


_native: _Native | None = None
_native_lock = threading.Lock()


def native() -> _Native:
    """The callbacks; imports wasmtime the first time."""
    global _native  # noqa: PLW0603 - native callbacks exist once a process
    if _native is None:
        with _native_lock:
            if _native is None:
                _native = _Native()
    return _native


def watch(store: "wasmtime.Store", call: Call) -> int:
    """Have the engine ask `call` at every tick; gives the number to `forget`."""
    c = native()
    number = next(c.numbers)
    c.calls[number] = call
    c.ffi.wasmtime_store_epoch_deadline_callback(store.ptr(), c.on_epoch, number, c.nothing)
    store.set_epoch_deadline(1)
    return number


def forget(number: int) -> None:
    """The store of `number` is gone."""
    native().calls.pop(number, None)


def limit_store(store: "wasmtime.Store", memory_bytes_max: int) -> None:
    """Bound what one instance may allocate."""
    store.set_limits(
        memory_size=memory_bytes_max,
        table_elements=_TABLE_ELEMENTS_MAX,
        instances=_INSTANCES_MAX,
        tables=_INSTANCES_MAX,
        memories=_INSTANCES_MAX,
    )


def run_core(program: Program, setup: Setup, call: Call, stdout: Output, stderr: Output) -> Outcome:
    """Instantiate `program` afresh and run `_start`; never raises for what the guest does."""
    import wasmtime

    cpu_start = time.thread_time_ns()
    c = native()
    ffi = c.ffi
    store = wasmtime.Store(program.engine)
    number = watch(store, call)
    outputs: tuple[int, ...] = ()
    memory_bytes = 0
    current.call = call
    try:
        limit_store(store, setup.memory_bytes_max)
        pre = program.pre
        if program.plain_pre is None or setup.mounts:
            config, outputs = _make_wasi(setup, stdout, stderr)
        else:
            pre, current.streams = program.plain_pre, make_streams(stdout, stderr)
            config, outputs = _make_wasi(setup)
        context = store._context()  # noqa: SLF001
        problem = ffi.wasmtime_context_set_wasi(context, config)
        if problem:
            raise wasmtime.WasmtimeError._from_ptr(problem)  # noqa: SLF001
        instance = pre.instantiate(store)
        try:
            _call_start(instance, context)
        finally:
            memory_bytes = _memory_bytes(instance, context)
        exit_code, error = 0, None
    except wasmtime.ExitTrap as trap:
        exit_code, error = trap.code, None
    except (wasmtime.WasmtimeError, wasmtime.Trap) as trap:
        exit_code, error = EXIT_TRAP, trap
    finally:
        current.call, current.streams = None, None
        store.close()
        forget(number)
        for output in outputs:
            c.outputs.pop(output, None)
    cpu_ns = time.thread_time_ns() - cpu_start
    return judge(exit_code, error, call, memory_bytes, setup.memory_bytes_max, cpu_ns)


def run_command_component(program: Program, setup: Setup, call: Call, stdout: Output, stderr: Output) -> Outcome:
    """Instantiate a component with the engine's WASI p2 and call `wasi:cli/run`."""
    import wasmtime
    from wasmtime import component

    cpu_start = time.thread_time_ns()
    c = native()
    ffi = c.ffi
    store = wasmtime.Store(program.engine)
    number = watch(store, call)
    outputs: tuple[int, ...] = ()
    linker = component.Linker(program.engine)
    exit_code, error = 1, None
    try:
        linker.add_wasip2()
        limit_store(store, setup.memory_bytes_max)
        config, outputs = _make_wasi(setup, stdout, stderr)
        context = store._context()  # noqa: SLF001
        problem = ffi.wasmtime_context_set_wasi(context, config)
        if problem:
            raise wasmtime.WasmtimeError._from_ptr(problem)  # noqa: SLF001
        instance = linker.instantiate(store, program.component)
        function = find_function(instance, store, program.export, "run")
        result = ffi.wasmtime_component_val_t()
        problem = ffi.wasmtime_component_func_call(
            ctypes.byref(function._func),  # noqa: SLF001
            context,
            None,
            0,
            ctypes.byref(result),
            1,
        )
        if problem:
            raise wasmtime.WasmtimeError._from_ptr(problem)  # noqa: SLF001
        exit_code = 0 if result.of.result.is_ok else 1
    except wasmtime.ExitTrap as trap:
        exit_code = trap.code
    except wasmtime.WasmtimeError as trap:
        exit_code, error = EXIT_TRAP, trap
    finally:
        store.close()
        linker.close()
        forget(number)
        for output in outputs:
            c.outputs.pop(output, None)
    return judge(exit_code, error, call, 0, setup.memory_bytes_max, time.thread_time_ns() - cpu_start)


def find_function(instance: Any, store: "wasmtime.Store", interface: str, name: str) -> Any:
    """The function `name` of an exported interface; raises `wasmtime.WasmtimeError`."""
    import wasmtime

    outer = instance.get_export_index(store, interface)
    inner = None if outer is None else instance.get_export_index(store, name, outer)
    function = None if inner is None else instance.get_func(store, inner)
    if function is None:
        raise wasmtime.WasmtimeError(f"the component has no function {name} in {interface}")
    return function


def judge(
    exit_code: int, error: Exception | None, call: Call, memory_bytes: int, memory_bytes_max: int, cpu_ns: int
) -> Outcome:
    """What a run's end means.

    A trap counts as out of memory when the engine says so or when the guest held
    at least 7/8 of its limit: a refused `memory.grow` itself leaves no trace.
    """
    is_cut = call.reason is not None and (call.reason is not StopReason.STOPPED or call.was_sleep_cut)
    if error is None and not is_cut:  # a stop that came too late to change anything is none
        return Outcome(exit_code=exit_code, cpu_ns=cpu_ns, memory_bytes=memory_bytes)
    if call.reason is not None:
        words = {
            StopReason.DEADLINE: "it ran longer than its time limit",
            StopReason.STOPPED: "it was stopped",
            StopReason.CLIENT_GONE: "its client went away",
        }[call.reason]
        return Outcome(
            exit_code=EXIT_STOPPED, detail=words, reason=call.reason, cpu_ns=cpu_ns, memory_bytes=memory_bytes
        )
    text = _trap_words(error)
    is_oom = "exceeds memory limits" in text or (memory_bytes > 0 and memory_bytes >= memory_bytes_max * 7 // 8)
    detail = f"out of memory (limit {memory_bytes_max} bytes): {text}" if is_oom else text
    return Outcome(
        exit_code=exit_code,
        detail=detail,
        is_oom_killed=is_oom,
        is_trap=True,
        cpu_ns=cpu_ns,
        memory_bytes=memory_bytes,
    )


def _trap_words(error: Exception | None) -> str:
    """The engine's cause ("wasm trap: …") if it names one, else its words on one line."""
    text = str(error)
    _, found, cause = text.partition("wasm trap: ")
    return f"wasm trap: {cause.splitlines()[0]}" if found else " ".join(text.split())[:500]


def _make_wasi(setup: Setup, *streams: Output) -> tuple[Any, tuple[int, ...]]:
    """A `wasi_config_t`, owned by the caller, and the numbers of its outputs.

    `streams` are standard output and error, or nothing where `stdio` takes their place.
    """
    import wasmtime

    c = native()
    ffi = c.ffi
    config = ffi.wasi_config_new()
    accepted = ffi.wasi_config_set_argv(config, len(setup.args), _strings(setup.args))
    accepted = accepted and ffi.wasi_config_set_env(
        config, len(setup.env), _strings(setup.env), _strings(setup.env.values())
    )
    if not accepted:
        ffi.wasi_config_delete(config)
        raise wasmtime.WasmtimeError("the arguments or the environment are not valid text")
    if setup.stdin:
        vector = ffi.bytes_to_capi(setup.stdin)
        ffi.wasi_config_set_stdin_bytes(config, ctypes.byref(vector))
    for mount in setup.mounts:
        source, target = mount.source.encode(), mount.target.encode()
        if not ffi.wasi_config_preopen_dir(config, source, target, not mount.is_read_only):
            ffi.wasi_config_delete(config)
            raise wasmtime.WasmtimeError(f"the directory {mount.source} cannot be opened for {mount.target}")
    numbers: list[int] = []
    setters = (ffi.wasi_config_set_stdout_custom, ffi.wasi_config_set_stderr_custom)
    for output, set_output in zip(streams, setters, strict=False):
        numbers.append(number := next(c.numbers))
        c.outputs[number] = output
        set_output(config, c.on_output, number, c.nothing)
    return config, tuple(numbers)


_CHARS: Final = ctypes.POINTER(ctypes.POINTER(ctypes.c_char))


def _strings(values: Any) -> Any:
    encoded = [value.encode("utf-8", "replace") for value in values]
    return ctypes.cast((ctypes.c_char_p * len(encoded))(*encoded), _CHARS)


def _export(instance: Any, context: Any, name: bytes) -> Any:
    """The raw export `name`, or None; the caller owns it."""
    ffi = native().ffi
    item = ffi.wasmtime_extern_t()
    raw = ctypes.byref(instance._instance)  # noqa: SLF001
    found = ffi.wasmtime_instance_export_get(context, raw, name, len(name), ctypes.byref(item))
    return item if found else None


def _call_start(instance: Any, context: Any) -> None:
    import wasmtime

    ffi = native().ffi
    start = _export(instance, context, b"_start")
    assert start is not None, "a module without _start is refused when it is compiled"
    trap = ctypes.POINTER(ffi.wasm_trap_t)()
    problem = ffi.wasmtime_func_call(context, ctypes.byref(start.of.func), None, 0, None, 0, ctypes.byref(trap))
    if problem:
        raise wasmtime.WasmtimeError._from_ptr(problem)  # noqa: SLF001
    if trap:
        raise wasmtime.Trap._from_ptr(trap)  # noqa: SLF001


def _memory_bytes(instance: Any, context: Any) -> int:
    ffi = native().ffi
    item = _export(instance, context, b"memory")
    if item is None or item.kind != ffi.WASMTIME_EXTERN_MEMORY.value:
        return 0
    return int(ffi.wasmtime_memory_data_size(context, ctypes.byref(item.of.memory)))


def define_host(linker: "wasmtime.Linker", *, has_files: bool) -> None:
    """Replace the engine's `poll_oneoff`, which sleeps where no epoch can cut it, and see `stdio`."""
    import wasmtime

    i32 = wasmtime.ValType.i32
    signature = wasmtime.FuncType([i32(), i32(), i32(), i32()], [i32()])
    linker.define_func(WASI, "poll_oneoff", signature, _poll_oneoff, access_caller=True)
    if not has_files:
        native().stdio.define(linker)


def _poll_oneoff(caller: Any, subscriptions: int, events: int, count: int, written: int) -> int:
    """WASI p1 `poll_oneoff`: clocks in slices that a stop can cut; files are always ready."""
    memory = caller.get("memory")
    call = current.call
    count, subscriptions, events, written = (x & 0xFFFFFFFF for x in (count, subscriptions, events, written))
    if memory is None or call is None or not 0 < count <= _SUBSCRIPTIONS_MAX:
        return _ERRNO_INVAL
    size = memory.data_len(caller)
    if max(subscriptions + count * _SUBSCRIPTION_BYTES, events + count * _EVENT_BYTES, written + 4) > size:
        return _ERRNO_FAULT
    asked = bytes(memory.read(caller, subscriptions, subscriptions + count * _SUBSCRIPTION_BYTES))
    ready: list[bytes] = []
    clocks: list[tuple[float, bytes]] = []
    for at in range(0, len(asked), _SUBSCRIPTION_BYTES):
        user, kind = struct.unpack_from("<QB", asked, at)
        if kind == _CLOCK:
            clock, timeout_ns, _precision, flags = struct.unpack_from("<IxxxxQQH", asked, at + 16)
            clocks.append((_sleep_s(call, clock, timeout_ns, flags), _event(user, kind)))
        else:
            ready.append(_event(user, kind))
    if not ready:
        shortest = min(seconds for seconds, _ in clocks)
        call.sleep(shortest)
        ready = [event for seconds, event in clocks if seconds <= shortest]
    memory.write(caller, b"".join(ready), events)
    memory.write(caller, struct.pack("<I", len(ready)), written)
    return 0


def _sleep_s(call: Call, clock: int, timeout_ns: int, flags: int) -> float:
    if not flags & _ABSOLUTE:
        return timeout_ns / 1e9
    now = time.time_ns() if clock == _CLOCK_REALTIME else time.monotonic_ns() - call.started_ns
    return max(0, timeout_ns - now) / 1e9


def _event(user: int, kind: int) -> bytes:
    return struct.pack("<QHB5xQH6x", user, 0, kind, 0 if kind == _CLOCK else 1, 0)
