"""A static Linux program that takes memory until it is stopped, made of a few instructions that are written here. Pure.

It writes to one page after another of a gigabyte that its header asks for, which a memory limit below that ends.
"""

import struct
from typing import Final

from orca.errors import InvalidRequestError

_CODE: Final = 0x400000
_MEMORY: Final = 0x10000000
_MEMORY_BYTES: Final = 2**30
_HEADER_BYTES: Final = 64 + 2 * 56
_X86: Final = bytes.fromhex("bf00000010c607014881c700100000ebf4")  # mov edi; movb [rdi]; add rdi, 4096; jmp
_ARM64: Final = struct.pack("<4I", 0xD2A20000, 0x39000000, 0x91400400, 0x17FFFFFE)  # movz; strb; add #1, lsl #12; b


def make_hog(architecture: str) -> bytes:
    """An ELF file for `architecture` (`x86_64`, `aarch64` and their other names); InvalidRequestError for others."""
    match architecture.lower():
        case "x86_64" | "amd64":
            machine, code = 62, _X86
        case "aarch64" | "arm64":
            machine, code = 183, _ARM64
        case other:
            raise InvalidRequestError(f"no demonstration program for {other}; there is one for x86_64 and aarch64")
    size = _HEADER_BYTES + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    elf = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _CODE + _HEADER_BYTES, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    loaded = struct.pack("<IIQQQQQQ", 1, 5, 0, _CODE, _CODE, size, size, 0x10000)  # read and execute
    empty = struct.pack("<IIQQQQQQ", 1, 6, 0, _MEMORY, _MEMORY, 0, _MEMORY_BYTES, 0x10000)  # read and write
    return identity + elf + loaded + empty + code
