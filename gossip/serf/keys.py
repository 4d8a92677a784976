"""Keys of the whole cluster: answering what others do to our keyring, and changing everybody's.

A key operation is a query to all; each member changes its own ring and says how it went.
Serf leaves it to people to install, check, use, check and remove in the right order; a
step too early cuts members off. `Rotation` does it in that order and goes on only when
every living member has answered without complaint:

    install -> all hold it -> use -> it is primary everywhere -> remove the others -> only it is left

Every step may be repeated, so an attempt that some did not answer is made again, up to
`ATTEMPTS_MAX` times, and a rotation that stopped can be started anew with the same key.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from gossip.messages import KeyResponse
from gossip.serf.effects import KeyOperation, KeyReport, RotationEnded, RotationStep

ATTEMPTS_MAX: Final = 5
KEY_LENGTHS: Final = (16, 24, 32)
NOT_ENCRYPTED: Final = "No keyring to modify (encryption not enabled)"


class RingOfKeys(Protocol):
    """The part of `gossip.codec.sealing.Keyring` that is used here; changes raise ValueError with the reason."""

    @property
    def keys(self) -> Sequence[bytes]:
        """All keys, the primary one first."""
        ...

    @property
    def primary(self) -> bytes:
        """The one that seals."""
        ...

    def install(self, key: bytes) -> None:
        """Accept what is sealed with `key`; no change when it is there."""
        ...

    def use(self, key: bytes) -> None:
        """Seal with `key`, which must be installed."""
        ...

    def remove(self, key: bytes) -> None:
        """Accept `key` no longer; it must not be the primary one."""
        ...


def perform(ring: RingOfKeys | None, operation: KeyOperation, key: bytes) -> KeyResponse:
    """Do to our own keyring what a key query asks, and word the answer."""
    if ring is None:
        return KeyResponse(is_success=False, message=NOT_ENCRYPTED)
    try:
        match operation:
            case KeyOperation.INSTALL:
                ring.install(key)
            case KeyOperation.USE:
                ring.use(key)
            case KeyOperation.REMOVE:
                if key in ring.keys:  # what is gone already need not go
                    ring.remove(key)
            case KeyOperation.LIST:
                return KeyResponse(
                    is_success=True,
                    keys=tuple(base64_text(known) for known in ring.keys),
                    primary_key=base64_text(ring.primary),
                )
    except ValueError as error:
        return KeyResponse(is_success=False, message=str(error))
    return KeyResponse(is_success=True)


def base64_text(key: bytes) -> str:
    """A key as answers and people write it."""
    return base64.b64encode(key).decode("ascii")


class KeyTally:
    """Gathers the answers to one key operation."""

    def __init__(self, operation: KeyOperation, expected: Sequence[str]) -> None:
        self.operation = operation
        self._waiting = dict.fromkeys(expected)
        self._expected = len(self._waiting)
        self._failures: dict[str, str] = {}
        self._listed: dict[str, KeyResponse] = {}
        self._answered = 0

    @property
    def is_settled(self) -> bool:
        """Whether all who were expected have answered."""
        return not self._waiting

    def add(self, node: str, response: KeyResponse | None) -> None:
        """One answer; None when it could not be read."""
        self._answered += 1
        self._waiting.pop(node, None)
        if response is None:
            self._failures[node] = "the answer cannot be read as one to a key query"
        elif not response.is_success:
            self._failures[node] = response.message or "no reason given"
        else:
            self._listed[node] = response

    def report(self) -> KeyReport:
        """What is known so far."""
        keys: dict[str, int] = {}
        primary_keys: dict[str, int] = {}
        for response in self._listed.values():
            for key in dict.fromkeys(response.keys):
                keys[key] = keys.get(key, 0) + 1
            if response.primary_key:
                primary_keys[response.primary_key] = primary_keys.get(response.primary_key, 0) + 1
        return KeyReport(
            operation=self.operation,
            expected=self._expected,
            answered=self._answered,
            failures=dict(sorted(self._failures.items())),
            silent=tuple(sorted(self._waiting)),
            keys=dict(sorted(keys.items())),
            primary_keys=dict(sorted(primary_keys.items())),
        )


class KeyOrder(msgspec.Struct, frozen=True):
    """The operation to run next, on everybody."""

    operation: KeyOperation
    key: bytes


RotationMove: TypeAlias = KeyOrder | RotationEnded

_OPERATIONS: Final = {
    RotationStep.INSTALL: KeyOperation.INSTALL,
    RotationStep.CHECK_INSTALLED: KeyOperation.LIST,
    RotationStep.USE: KeyOperation.USE,
    RotationStep.CHECK_USED: KeyOperation.LIST,
    RotationStep.REMOVE: KeyOperation.REMOVE,
    RotationStep.CHECK_REMOVED: KeyOperation.LIST,
}
_ORDER: Final = tuple(RotationStep)


class Rotation:
    """One key rotation; see the module docstring."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._text = base64_text(key)
        self._old: list[bytes] = []
        self.step = RotationStep.INSTALL
        self.attempt = 1

    def order(self) -> KeyOrder:
        """What to do at the present step."""
        operation = _OPERATIONS[self.step]
        if self.step is RotationStep.REMOVE:
            return KeyOrder(operation, self._old[0])
        return KeyOrder(operation, b"" if operation is KeyOperation.LIST else self._key)

    def after(self, report: KeyReport, absent: Sequence[str]) -> RotationMove:
        """What follows from the report of the present order.

        `absent`: failed members without which the caller did not allow to go on.
        """
        complaint = self._complaint(report)
        if complaint and self.attempt < ATTEMPTS_MAX:
            self.attempt += 1
            return self.order()
        if not complaint and absent:
            complaint = f"members failed meanwhile and would be locked out: {', '.join(absent)}"
        if complaint:
            return RotationEnded(is_done=False, step=self.step, reason=complaint)
        return self._advance(report)

    def _advance(self, report: KeyReport) -> RotationMove:
        self.attempt = 1
        if self.step is RotationStep.REMOVE:
            self._old.pop(0)
            if self._old:
                return self.order()
        if self.step is RotationStep.CHECK_USED:
            self._old = [raw for text in report.keys if text != self._text and (raw := _raw_key(text)) is not None]
            if not self._old:
                return RotationEnded(is_done=True, step=self.step)
        if self.step is RotationStep.CHECK_REMOVED:
            return RotationEnded(is_done=True, step=self.step)
        self.step = _ORDER[_ORDER.index(self.step) + 1]
        return self.order()

    def _complaint(self, report: KeyReport) -> str:
        """Why the present step is not done everywhere; empty when it is."""
        if report.failures:
            return "; ".join(f"{node}: {reason}" for node, reason in report.failures.items())
        if report.silent:
            return f"no answer from {', '.join(report.silent)}"
        holders = report.keys.get(self._text, 0)
        users = report.primary_keys.get(self._text, 0)
        match self.step:
            case RotationStep.CHECK_INSTALLED if holders < report.answered:
                return f"only {holders} of {report.answered} members hold the new key"
            # Agents before Serf 0.9.4 do not say which key is primary: their success with `use` has to do.
            case RotationStep.CHECK_USED if users < sum(report.primary_keys.values()):
                return f"only {users} of {report.answered} members seal with the new key"
            case RotationStep.CHECK_REMOVED if len(report.keys) > 1:
                return f"{len(report.keys) - 1} old keys are still there"
            case _:
                return ""


def _raw_key(text: str) -> bytes | None:
    """The key behind its text; None when a member listed what is none."""
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return key if len(key) in KEY_LENGTHS else None
