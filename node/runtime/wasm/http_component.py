"""Serving `wasi:http/incoming-handler`: a linker for a component, and one call of it.

wasmtime's binding is used as it is but for two corrections, made once, at import:

- lowering a variant used one set, global to the module, in all threads, so that calls in
  two threads at once failed; ours is local (and takes a `Variant` by its tag wherever
  that is unambiguous);
- `list<u8>` was converted one element at a time: 100 KB took 70 to 100 ms. Ours copies
  the array and slices it.

Host functions raise nothing but `WasmtimeError`, which becomes a trap: any other
exception would land in a module global of the binding that all threads share.
"""

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import wasmtime
from wasmtime import component
from wasmtime.component import _types as binding

from node.runtime.base import LogStream
from node.runtime.wasm import guest
from node.runtime.wasm.calls import Call, Outcome, current
from node.runtime.wasm.engine import Program
from node.runtime.wasm.guest import EXIT_TRAP, Setup
from node.runtime.wasm.http_host import INTERFACES, RESOURCES, Host
from node.runtime.wasm.logs import AllocationLog
from node.runtime.wasm.sink import Sink
from node.runtime.wasm.wagi import MalformedOutputError, Request, Response

_HEADLESS_BYTES_MAX: Final = 8 * 2**20
"""How much body may come before the head."""


class HttpHandler:
    """A component, instantiated afresh for each request."""

    def __init__(self, program: Program, setup: Setup, log: AllocationLog) -> None:
        self._program = program
        self._setup = setup
        self._log = log
        self._linker = make_linker(program)

    def run(self, request: Request, call: Call, sink: Sink) -> Outcome:
        """One instance, one call of its handler."""
        started = time.thread_time_ns()
        host = Host(request, call, sink, self._setup, self._write_log)
        store = wasmtime.Store(self._program.engine)
        number = guest.watch(store, call)
        error: Exception | None = None
        _active.host, current.call = host, call
        try:
            guest.limit_store(store, self._setup.memory_bytes_max)
            instance = self._linker.instantiate(store, self._program.component)
            handle = guest.find_function(instance, store, self._program.export, "handle")
            incoming = component.ResourceHost.own(host.add_request(), RESOURCES["incoming-request"])
            answer = component.ResourceHost.own(host.add_outparam(), RESOURCES["response-outparam"])
            handle(store, incoming, answer)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as problem:
            error = None if host.exit_code is not None else problem
        finally:
            store.close()
            _active.host, current.call = None, None
            guest.forget(number)
        if host.has_logged:
            self._log.flush()
        exit_code = EXIT_TRAP if error is not None else host.exit_code or 0
        cpu_ns = time.thread_time_ns() - started
        return guest.judge(exit_code, error, call, 0, self._setup.memory_bytes_max, cpu_ns)

    def read_head(self, sink: Sink, output: bytes, *, is_whole: bool) -> tuple[Response, bytes] | None:
        """The head that the guest gave to its `response-outparam`."""
        if sink.head is not None:
            return sink.head, output
        if is_whole:
            raise MalformedOutputError("the handler returned without setting a response")
        if len(output) > _HEADLESS_BYTES_MAX:
            raise MalformedOutputError(f"more than {_HEADLESS_BYTES_MAX} bytes of body came before the head")
        return None

    def _write_log(self, stream: LogStream, piece: bytes) -> None:
        self._log.write(stream, piece)


class _Active(threading.local):
    """The host of the call that runs in this thread."""

    host: Host | None = None


_active: Final = _Active()
_link_lock: Final = threading.Lock()


def make_linker(program: Program) -> component.Linker:
    """A linker with our host for all that `program` imports; calling what we lack is a trap.

    Made from the component's own imports, because an interface that only uses a resource
    of another one must name the same type: the engine's stand-ins for unknown imports
    make new types, which then do not match.
    """
    with _link_lock:  # the binding's tables of callbacks are not made for two threads
        linker = component.Linker(program.engine)
        others: dict[str, int] = {}
        with linker.root() as root:
            for name, imported in program.component.type.imports(program.engine).items():
                kind = imported.ty
                if isinstance(kind, binding.ComponentInstanceType):
                    with root.add_instance(name) as instance:
                        _define(instance, name, kind.exports(program.engine), others)
        return linker


def _define(instance: Any, interface: str, exports: dict[str, Any], others: dict[str, int]) -> None:
    """Define every resource and function of one interface; `others` numbers resources that we lack."""
    functions = INTERFACES.get(interface.partition("@")[0], {})
    for name, exported in exports.items():
        kind = exported.ty
        if isinstance(kind, component.ResourceType):
            number = RESOURCES.get(name) or others.setdefault(name, 1000 + len(others))
            instance.add_resource(name, component.ResourceType.host(number), _drop)
        elif isinstance(kind, component.FuncType):
            instance.add_func(name, _guard(name, functions.get(name) or _lacking(interface, name)))


def _lacking(interface: str, name: str) -> Callable[..., Any]:
    def call(_host: Host, *_args: Any) -> Any:
        raise wasmtime.WasmtimeError(f"{interface} {name} is not available to a wasi:http component here")

    return call


def _drop(_store: Any, rep: int) -> None:
    if _active.host is not None:
        _active.host.table.pop(rep, None)


def _guard(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as a host function: resources in and out as objects, no exception but a trap."""

    def call(store: Any, *args: Any) -> Any:
        host = _active.host
        if host is None:
            raise wasmtime.WasmtimeError(f"{name} was called outside of a request")
        try:
            taken = [_take(store, host, argument) for argument in args]
            return _give(host, function(host, *taken))
        except wasmtime.WasmtimeError:
            raise
        except Exception as error:
            raise wasmtime.WasmtimeError(f"{name}: {type(error).__name__}: {error}") from error

    return call


def _take(store: Any, host: Host, argument: Any) -> Any:
    """Host objects for handles; each handle is consumed exactly once."""
    if isinstance(argument, component.ResourceAny):
        with argument.to_host(store) as handle:
            value = host.table[handle.rep]
            if handle.owned:
                del host.table[handle.rep]
            return value
    if isinstance(argument, list):
        return [_take(store, host, item) for item in argument]
    return argument


def _give(host: Host, result: Any) -> Any:
    """Handles for host objects, also inside variants, lists and tuples."""
    kind = getattr(result, "resource", None)
    if kind is not None:
        return component.ResourceHost.own(host.add(result), RESOURCES[kind])
    if isinstance(result, component.Variant):
        return component.Variant(result.tag, _give(host, result.payload))
    return result


# The two corrections of the binding.


def _lower(self: Any, store: Any, value: Any) -> Any:
    cases = self._cases()
    chosen: tuple[str, Any] | None = None
    payload = value
    if isinstance(value, component.Variant):
        chosen = next((case for case in cases if case[0] == value.tag), None)
        if chosen is not None:
            payload = value.payload
    if chosen is None:
        chosen = next((case for case in cases if _fits(case[1], value)), None)
    if chosen is None:
        raise ValueError("value not valid for this variant")
    name, kind = chosen
    if kind is None:
        return name, None
    ffi = guest.native().ffi
    raw = ffi.wasmtime_component_val_t()
    kind.convert_to_c(store, payload, ctypes.pointer(raw))
    return name, ffi.wasmtime_component_val_new(ctypes.byref(raw))


def _fits(kind: Any, value: Any) -> bool:
    if kind is None:
        return value is None
    classes: set[type] = set()
    kind.add_classes(classes)
    return isinstance(value, tuple(classes))


_list_to_c: Final = binding.ListType.convert_to_c
_list_from_c: Final = binding.ListType.convert_from_c


def _bytes_to_c(self: Any, store: Any, value: Any, pointer: Any) -> None:
    if not isinstance(value, bytes) or not self._is_bytes():
        _list_to_c(self, store, value, pointer)
        return
    ffi = guest.native().ffi
    raw = ffi.wasmtime_component_vallist_t()
    ffi.wasmtime_component_vallist_new_uninit(raw, len(value))
    if value:
        stride, offset = _layout()
        image = bytearray(len(value) * stride)
        image[0::stride] = bytes((ffi.WASMTIME_COMPONENT_U8.value,)) * len(value)
        image[offset::stride] = value
        ctypes.memmove(raw.data, (ctypes.c_char * len(image)).from_buffer(image), len(image))
    pointer.contents.kind = ffi.WASMTIME_COMPONENT_LIST
    pointer.contents.of.list = raw


def _bytes_from_c(self: Any, value: Any) -> Any:
    if not self._is_bytes():
        return _list_from_c(self, value)
    ffi = guest.native().ffi
    stride, offset = _layout()
    size = value.of.list.size
    image = ctypes.string_at(value.of.list.data, size * stride) if size else b""
    ffi.wasmtime_component_vallist_delete(ctypes.byref(value.of.list))
    return image[offset::stride]


def _layout() -> tuple[int, int]:
    kind = guest.native().ffi.wasmtime_component_val_t
    return ctypes.sizeof(kind), kind.of.offset


binding.VariantLikeType._lower = _lower  # type: ignore[method-assign,assignment]  # noqa: SLF001
binding.ListType.convert_to_c = _bytes_to_c  # type: ignore[method-assign,assignment]
binding.ListType.convert_from_c = _bytes_from_c  # type: ignore[method-assign,assignment]
