"""What an answer of the API means, whichever way it came. Loads no event loop."""

from typing import Protocol, TypeVar

import msgspec

from orca.client.discover import NodeAddress
from orca.errors import (
    ErrorBody,
    ErrorEnvelope,
    NodeUnreachableError,
    NotFoundError,
    OrcaError,
    PeerProtocolError,
    ProposalLostError,
    from_body,
)

T = TypeVar("T")


class Answer(Protocol):
    """A whole answer."""

    @property
    def status(self) -> int:
        """Of HTTP."""
        ...

    @property
    def body(self) -> bytes:
        """All of it."""
        ...


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of a log stream that failed."""

    error: ErrorBody


class BuildLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a build: of output, or at its end the image or the error."""

    line: str = ""
    image: str | None = None
    error: ErrorBody | None = None


def decoded(body: bytes, kind: type[T], what: str) -> T:
    """`body` as `kind`; raises `PeerProtocolError` when it is something else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PeerProtocolError(
            f"the answer to {what} is no {kind.__name__}: {error}",
            hint="the node may be of another version than this client",
        ) from error


def decode_error(status: int, body: bytes, what: str) -> OrcaError:
    """The error that an answer with `status` tells of."""
    if not body and status == NotFoundError.http_status:
        return NotFoundError(f"{what}: there is no such thing")
    try:
        return from_body(msgspec.json.decode(body, type=ErrorEnvelope).error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return PeerProtocolError(
            f"{what} was answered with status {status} and no error of Orca's", hint="is this address an Orca node's?"
        )


def unreachable(address: NodeAddress, why: str) -> NodeUnreachableError:
    """The error that names the node and the way out."""
    return NodeUnreachableError(
        f"no node answers at {address}: {why}",
        hint="start one with `orca up`, or name another with --node or ORCA_NODE",
    )


def lost(address: NodeAddress, why: str, *, is_write: bool) -> OrcaError:
    """A call that was begun and not answered: nothing happened, or for a write nobody knows."""
    if not is_write:
        return unreachable(address, why)
    return ProposalLostError(
        f"it is unknown whether the change was made: the node at {address} took it, then {why}",
        hint="look at `orca status`, then try again if needed",
    )


def reason_of(error: OSError) -> str:
    """The most telling words of `error`, which may hold those of several addresses."""
    inner = error.__cause__
    if isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    found = inner if isinstance(inner, OSError) else error
    return (found.strerror or str(found)).lower()
