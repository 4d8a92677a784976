"""What a simulated group replicates: named registers that are written, appended to, swapped and read.

A value is a string of words, and each write brings a word that no other one brings: so a read says which
writes it has seen. A request is carried out once, however often it is in the log.
"""

import enum
import zlib
from typing import TypeAlias

import msgspec


class Kind(enum.Enum):
    """What a client wants of a register."""

    READ = "read"
    WRITE = "write"
    APPEND = "append"
    SWAP = "swap"
    """Write `word` if the value is `expected` (compare and set)."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One intention of one client; a retry has the same `request`."""

    request: str
    key: str
    kind: Kind
    word: str = ""
    expected: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The value afterwards, and whether the operation did what it was to do (a swap may not)."""

    value: str
    is_done: bool = True


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """It was carried out."""

    outcome: Outcome


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """It was not carried out, and never will be by this attempt."""


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """It may have been carried out, or may yet be."""


Answer: TypeAlias = Done | Refused | Unknown


def carry_out(value: str, operation: Operation) -> Outcome:
    """What `operation` does to a register that holds `value`: the specification."""
    match operation.kind:
        case Kind.READ:
            return Outcome(value=value)
        case Kind.WRITE:
            return Outcome(value=operation.word)
        case Kind.APPEND:
            return Outcome(value=f"{value} {operation.word}".lstrip())
        case Kind.SWAP:
            is_done = value == operation.expected
            return Outcome(value=operation.word if is_done else value, is_done=is_done)


class _Kept(msgspec.Struct, kw_only=True):
    values: dict[str, str]
    answers: dict[str, Outcome]
    digest: int


_operations: msgspec.msgpack.Decoder[Operation] = msgspec.msgpack.Decoder(Operation)


def encode_operation(operation: Operation) -> bytes:
    """Its payload in the log."""
    return msgspec.msgpack.encode(operation)


def decode_operation(payload: bytes) -> Operation:
    """What `encode_operation` was given."""
    return _operations.decode(payload)


class Registers:
    """All registers of one node; `digest` depends on every payload that was applied, and on their order."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.answers: dict[str, Outcome] = {}
        self.digest = 0

    def apply(self, payload: bytes) -> Outcome:
        """Carry out a committed payload."""
        operation = decode_operation(payload)
        self.digest = zlib.crc32(payload, self.digest)
        known = self.answers.get(operation.request)
        if known is not None:
            return known
        outcome = carry_out(self.read(operation.key), operation)
        self.values[operation.key] = outcome.value
        self.answers[operation.request] = outcome
        return outcome

    def read(self, key: str) -> str:
        """The value of `key`; empty for one that was never written."""
        return self.values.get(key, "")

    def encode(self) -> bytes:
        """A snapshot."""
        return msgspec.msgpack.encode(_Kept(values=self.values, answers=self.answers, digest=self.digest))

    @classmethod
    def decode(cls, payload: bytes) -> "Registers":
        """The registers of a snapshot."""
        kept = msgspec.msgpack.decode(payload, type=_Kept)
        registers = cls()
        registers.values, registers.answers, registers.digest = kept.values, kept.answers, kept.digest
        return registers
