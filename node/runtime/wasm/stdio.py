"""`fd_write` and `fd_close` for guests that have no directories.

The engine hands custom output over to a thread of its own and back, which costs as much
as all the rest of a short run. A guest without directories can only ever have the files
0, 1 and 2, so these two functions need none of the engine's tables: what the guest
writes goes to its `Streams` in its own thread. Other functions on a closed stream still
see it open; a module that imports `fd_renumber` is left to the engine altogether.

Errors are those of the engine: EBADF for what is not open for writing, a trap for an
address outside of the memory. One write takes all its vectors, where the engine's takes
the first that is not empty and leaves the rest to another call.
"""

import ctypes
import sys
from typing import TYPE_CHECKING, Any, Final

from node.runtime.wasm.calls import Output, Streams, current

if TYPE_CHECKING:
    import wasmtime

WASI: Final = "wasi_snapshot_preview1"
PIECE_BYTES_MAX: Final = 64 * 1024
"""A long write is handed on in pieces, so that whoever takes it can bound what waits."""

_VECTORS_MAX: Final = 1024
"""Of one write, as IOV_MAX of Linux; a write of more is a partial one."""
_VECTOR_BYTES: Final = 8
_ERRNO_SUCCESS: Final = 0
_ERRNO_BADF: Final = 8
_ERRNO_IO: Final = 29
_MEMORY: Final = b"memory"


class OutOfBoundsError(Exception):
    """The guest named an address that its memory does not have."""


class Stdio:
    """The two functions, as callbacks of the C interface; made once wasmtime is imported.

    `quick` is the engine's library without giving up the interpreter's lock around a
    call: right for functions of a microsecond, which give it up for longer than they take.
    """

    def __init__(self, ffi: Any) -> None:
        self._ffi = ffi
        self.quick = ctypes.PyDLL(ffi.dll._name)  # noqa: SLF001
        self._export_get = self.quick.wasmtime_caller_export_get
        self._export_get.restype = ctypes.c_bool
        self._export_get.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p]
        self._context = self.quick.wasmtime_caller_context
        self._context.restype = ctypes.c_void_p
        self._context.argtypes = [ctypes.c_void_p]
        self._data = self.quick.wasmtime_memory_data
        self._data.restype = ctypes.c_void_p
        self._data.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._size = self.quick.wasmtime_memory_data_size
        self._size.restype = ctypes.c_size_t
        self._size.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        callback = ctypes.CFUNCTYPE(
            ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32), ctypes.c_size_t
        )
        self._nothing = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))
        kept = {b"fd_write": (callback(self._on_write), 4), b"fd_close": (callback(self._on_close), 1)}
        self._callbacks = {
            name: (ctypes.cast(function, ffi.wasmtime_func_unchecked_callback_t), count)
            for name, (function, count) in kept.items()
        }
        self._kept = kept  # a cast does not keep what it was made of

    def define(self, linker: "wasmtime.Linker") -> None:
        """Put both in the place of the engine's."""
        import wasmtime

        i32 = wasmtime.ValType.i32
        module = WASI.encode()
        for name, (function, count) in self._callbacks.items():
            signature = wasmtime.FuncType([i32() for _ in range(count)], [i32()])
            problem = self._ffi.wasmtime_linker_define_func_unchecked(
                linker.ptr(), module, len(module), name, len(name), signature.ptr(), function, None, self._nothing
            )
            if problem:
                raise wasmtime.WasmtimeError._from_ptr(problem)  # noqa: SLF001

    def _on_write(self, _env: int | None, caller: int, values: Any, _count: int) -> int:
        try:
            # a value takes 16 bytes, a 32-bit integer the first four of them
            values[0] = self._write(caller, values[0], values[4], values[8], values[12])
        except OutOfBoundsError as error:
            return self._trap(str(error))
        except Exception as error:  # noqa: BLE001 - nothing may be raised into native code
            print(f"orca: a guest's output was lost: {error!r}", file=sys.stderr)  # noqa: T201
            values[0] = _ERRNO_IO
        return 0

    def _on_close(self, _env: int | None, _caller: int, values: Any, _count: int) -> int:
        streams = current.streams
        values[0] = _ERRNO_SUCCESS if streams is not None and streams.close(values[0]) else _ERRNO_BADF
        return 0

    def _trap(self, words: str) -> int:
        text = words.encode()
        return ctypes.cast(self._ffi.wasmtime_trap_new(text, len(text)), ctypes.c_void_p).value or 0

    def _write(self, caller: int, stream: int, vectors: int, count: int, written: int) -> int:
        streams = current.streams
        item = self._ffi.wasmtime_extern_t()
        place = ctypes.byref(item)
        found = self._export_get(caller, _MEMORY, len(_MEMORY), place)
        if not found or item.kind != self._ffi.WASMTIME_EXTERN_MEMORY.value:
            raise OutOfBoundsError("missing required memory export")
        context = self._context(caller)
        memory = ctypes.byref(item.of.memory)
        start, size = self._data(context, memory) or 0, self._size(context, memory)
        pieces = _read_vectors(start, size, vectors, count)
        output = None if streams is None else streams.find(stream)
        if output is None:
            return _ERRNO_BADF
        if written % 4 or written + 4 > size:
            raise OutOfBoundsError(f"out of bounds or not aligned: the count of a write at {written} in {size} bytes")
        total = 0
        for address, length in pieces:
            _hand_on(output, start + address, length)
            total += length
        ctypes.c_uint32.from_address(start + written).value = total
        return _ERRNO_SUCCESS


def _read_vectors(start: int, size: int, vectors: int, count: int) -> list[tuple[int, int]]:
    """The addresses and lengths that a write names; raises `OutOfBoundsError`."""
    if vectors % 4 or vectors + count * _VECTOR_BYTES > size:
        raise OutOfBoundsError(f"out of bounds or not aligned: {count} vectors at {vectors} in {size} bytes")
    count = min(count, _VECTORS_MAX)
    words = (ctypes.c_uint32 * (2 * count)).from_address(start + vectors)[:]
    pieces = [(words[at], words[at + 1]) for at in range(0, 2 * count, 2)]
    for address, length in pieces:
        if length and address + length > size:
            raise OutOfBoundsError(f"out of bounds: {length} bytes at {address} in {size} bytes")
    return pieces


def _hand_on(output: Output, address: int, length: int) -> None:
    call = current.call
    for at in range(0, length, PIECE_BYTES_MAX):
        if at and call is not None and call.must_stop():
            call.was_sleep_cut = True  # output is missing, so this run counts as cut however it ends
            return
        output(ctypes.string_at(address + at, min(PIECE_BYTES_MAX, length - at)))


def make_streams(stdout: Output, stderr: Output) -> Streams:
    """Standard input, output and error as a guest has them at its start."""
    return Streams({0: None, 1: stdout, 2: stderr})
