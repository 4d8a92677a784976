"""A static Linux program that answers HTTP, made of a few hundred bytes that are written here. Pure.

The demonstration needs something to put into an image `FROM scratch` on a computer
that may have no compiler, no registry and no static binary. The program listens on a
port, answers every connection with one fixed page, and ends on SIGTERM:

    rt_sigaction(SIGTERM, exit 0); s = socket(TCP); bind(s, port); listen(s)
    for ever: c = accept(s); read(c, request); write(c, page); shutdown(c); close(c)

System calls are all that it does, so it is written once as a list of calls and put
into machine code by a generator of a few instructions for each processor. The file
is the smallest ELF that Linux runs: one header, one segment, code, data.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from orca.errors import InvalidRequestError

_BASE: Final = 0x400000
_HEADER_BYTES: Final = 64 + 56
_SIGTERM: Final = 15
_SA_RESTORER: Final = 0x04000000  # x86-64 refuses to deliver a signal without one
_READ_BYTES: Final = 4096


class _Call(NamedTuple):
    """One system call. `keeps` is where its result goes; a str argument is an address or a kept result."""

    name: str
    arguments: tuple[int | str, ...]
    keeps: str = ""


class _Jump(NamedTuple):
    """Back to the instruction where the loop begins."""


class _Mark(NamedTuple):
    """A place in the code."""

    name: str


_Step: TypeAlias = _Call | _Jump | _Mark


def _program(page_bytes: int) -> list[_Step]:
    return [
        _Call("rt_sigaction", (_SIGTERM, "action", 0, 8)),
        _Call("socket", (2, 1, 0), keeps="listener"),
        _Call("bind", ("listener", "address", 16)),
        _Call("listen", ("listener", 128)),
        _Mark("loop"),
        _Call("accept", ("listener", 0, 0), keeps="connection"),
        _Call("read", ("connection", "scratch", _READ_BYTES)),
        _Call("write", ("connection", "page", page_bytes)),
        _Call("shutdown", ("connection", 1)),
        _Call("close", ("connection",)),
        _Jump(),
        _Mark("exit"),
        _Call("exit", (0,)),
    ]


class _X86:
    """x86-64: numbers in eax, arguments in edi, esi, edx, r10d; results are kept in ebx and ebp."""

    machine = 62
    numbers: Final = {
        "read": 0, "write": 1, "close": 3, "rt_sigaction": 13, "socket": 41, "accept": 43,
        "shutdown": 48, "bind": 49, "listen": 50, "exit": 60,
    }  # fmt: skip
    _set: Final = (b"\xbf", b"\xbe", b"\xba", b"\x41\xba")  # mov edi/esi/edx/r10d, imm32
    _from_kept: Final = {"listener": b"\x89\xdf", "connection": b"\x89\xef"}  # mov edi, ebx / ebp
    _keep: Final = {"listener": b"\x89\xc3", "connection": b"\x89\xc5"}  # mov ebx / ebp, eax

    def call(self, step: _Call, places: dict[str, int]) -> bytes:
        """The call's instructions; only the first argument may be a kept result."""
        code = b""
        for index, argument in enumerate(step.arguments):
            if argument == "scratch":
                code += b"\x48\x8d\xb4\x24" + struct.pack("<i", -2 * _READ_BYTES)  # lea rsi, [rsp-8192]
            elif isinstance(argument, str) and argument in self._from_kept:
                code += self._from_kept[argument]
            else:
                value = places[argument] if isinstance(argument, str) else argument
                code += self._set[index] + struct.pack("<I", value)
        code += b"\xb8" + struct.pack("<I", self.numbers[step.name]) + b"\x0f\x05"  # mov eax, n; syscall
        return code + self._keep.get(step.keeps, b"")

    def jump(self, distance: int) -> bytes:
        """To the instruction `distance` bytes from here."""
        return b"\xe9" + struct.pack("<i", distance - 5)  # jmp rel32 counts from the next instruction


class _Arm64:
    """AArch64: numbers in x8, arguments in x0 to x3; results are kept in x19 and x20."""

    machine = 183
    numbers: Final = {
        "close": 57, "read": 63, "write": 64, "exit": 93, "rt_sigaction": 134, "socket": 198,
        "bind": 200, "listen": 201, "accept": 202, "shutdown": 210,
    }  # fmt: skip
    _kept: Final = {"listener": 19, "connection": 20}

    def call(self, step: _Call, places: dict[str, int]) -> bytes:
        """The call's instructions."""
        words: list[int] = []
        for register, argument in enumerate(step.arguments):
            if argument == "scratch":
                words.append(0xD1400000 | 2 << 10 | 31 << 5 | register)  # sub xN, sp, #2, lsl #12
            elif isinstance(argument, str) and argument in self._kept:
                words.append(0xAA0003E0 | self._kept[argument] << 16 | register)  # mov xN, xM
            else:
                value = places[argument] if isinstance(argument, str) else argument
                words.append(0xD2800000 | (value & 0xFFFF) << 5 | register)  # movz xN, #low
                words.append(0xF2A00000 | (value >> 16) << 5 | register)  # movk xN, #high, lsl #16
        words += [0xD2800000 | self.numbers[step.name] << 5 | 8, 0xD4000001]  # movz x8, #n; svc #0
        if step.keeps:
            words.append(0xAA0003E0 | self._kept[step.keeps])  # mov xM, x0
        return struct.pack(f"<{len(words)}I", *words)

    def jump(self, distance: int) -> bytes:
        """To the instruction `distance` bytes from here."""
        return struct.pack("<I", 0x14000000 | (distance // 4) & 0x3FFFFFF)  # b


def _assemble(target: _X86 | _Arm64, steps: Sequence[_Step], places: dict[str, int]) -> tuple[bytes, dict[str, int]]:
    code = b""
    marks: dict[str, int] = {}
    for step in steps:
        match step:
            case _Call():
                code += target.call(step, places)
            case _Jump():
                code += target.jump(marks["loop"] - len(code))
            case _Mark(name=name):
                marks[name] = len(code)
    return code, marks


def make_server(architecture: str, port: int, text: str) -> bytes:
    """An ELF file for `architecture` (`x86_64`, `aarch64` and their other names) that serves `text` on `port`.

    Raises InvalidRequestError for other processors.
    """
    target: _X86 | _Arm64
    match architecture.lower():
        case "x86_64" | "amd64":
            target = _X86()
        case "aarch64" | "arm64":
            target = _Arm64()
        case other:
            raise InvalidRequestError(f"no demonstration server for {other}; there is one for x86_64 and aarch64")
    body = text.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    page = head.encode() + b"Connection: close\r\n\r\n" + body
    steps = _program(len(page))
    # Every number takes the same room, so a first pass with empty places gives the sizes.
    names = ("action", "address", "page")
    code, marks = _assemble(target, steps, dict.fromkeys(names, 0))
    start = _BASE + _HEADER_BYTES
    handler = start + marks["exit"]
    action = struct.pack("<QQQQ", handler, _SA_RESTORER, handler, 0)
    address = struct.pack("<H", 2) + struct.pack(">H", port) + bytes(12)
    places, data = {}, b""
    code_bytes = -(-len(code) // 8) * 8
    for name, content in zip(names, (action, address, page), strict=True):
        places[name] = start + code_bytes + len(data)
        data += content
    code, _ = _assemble(target, steps, places)
    text_bytes = code.ljust(code_bytes, b"\0") + data
    size = _HEADER_BYTES + len(text_bytes)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    elf = identity + struct.pack("<HHIQQQIHHHHHH", 2, target.machine, 1, start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)  # loaded, read and execute
    return elf + segment + text_bytes
