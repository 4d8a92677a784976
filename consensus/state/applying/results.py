"""How a command ends: done, or refused with a reason."""

from typing import Final

import msgspec

from consensus.state.cluster import ClusterState
from consensus.state.records import LeaseRecord
from orca.model.ids import SecretId, StateRevision
from orca.model.view import ServiceChange

TIME_MS_MAX: Final = 2**53
"""No later time is accepted: sums of times stay whole numbers that every decoder reads."""
HASH_BYTES: Final = 32
TEXT_MAX: Final = 1_000
NAME_MAX: Final = 255


class Refusal(Exception):  # noqa: N818 - never leaves `apply`; a value, not a failure
    """Why a command changes nothing; becomes an `Outcome`."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a command did, for its outcome."""

    changes: tuple[ServiceChange, ...] = ()
    leases: tuple[LeaseRecord, ...] = ()
    secrets: tuple[SecretId, ...] = ()


NOTHING: Final = Done()


def touch(state: ClusterState, at: StateRevision) -> None:
    """Something changed that people or nodes act on."""
    state.revision = at


def touch_plans(state: ClusterState, at: StateRevision) -> None:
    """Something changed that plans are made from."""
    state.revision = at
    state.plan_revision = at


def check_text(what: str, text: str, *, length_max: int = NAME_MAX, may_be_empty: bool = False) -> None:
    """Refuse a name or note that is empty or too long."""
    if not text and not may_be_empty:
        raise Refusal("invalid_request", f"{what} is empty; give it a value")
    if len(text) > length_max:
        raise Refusal("invalid_request", f"{what} has {len(text)} characters; at most {length_max} are kept")


def check_hash(what: str, content: bytes) -> None:
    """Refuse what cannot be a SHA-256: above all a secret in clear, which must never get here."""
    if len(content) != HASH_BYTES:
        raise Refusal(
            "invalid_request", f"the hash of {what} has {len(content)} bytes; a SHA-256 of its secret has {HASH_BYTES}"
        )


def check_room(what: str, present: int, most: int, mend: str) -> None:
    """Refuse one more of what there is enough of."""
    if present >= most:
        raise Refusal("conflict", f"there are {present} {what}, and {most} is the most; {mend}")


def check_time(what: str, at_ms: int) -> None:
    """Refuse a time that is none."""
    if not 0 <= at_ms <= TIME_MS_MAX:
        raise Refusal("invalid_request", f"{what} is {at_ms}, which is no time in milliseconds since 1970")
