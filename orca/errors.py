"""The one error tree.

Every error that a person or a program may meet has a stable `code` (API bodies,
logs, tests), the HTTP status and the exit code that go with it, and `is_definite`:
True when the change certainly did not happen and never will, so that a retry
elsewhere is safe. The message says what was wrong, where, and what would be right.

A broken invariant is not in this tree: it is an `assert` and stops the node.
"""

from typing import ClassVar

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing wrong with an input.

    `key` is the dotted path (`service[0].resources.memory`), `allowed` says what would
    be right. `line` counts from 1; 0 means that the input has no lines.
    """

    message: str
    file: str = ""
    line: int = 0
    key: str = ""
    allowed: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        head = ": ".join(part for part in (place, self.key, self.message) if part)
        return f"{head} (allowed: {self.allowed})" if self.allowed else head


class OrcaError(Exception):
    """Anything that Orca refuses or fails to do."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    is_definite: ClassVar[bool] = False

    def __init__(self, message: str, *, problems: tuple[Problem, ...] = (), hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.problems = problems
        self.hint = hint
        self.is_recorded = False
        """Whether the cluster's audit has it already."""


class InvalidRequestError(OrcaError):
    """The caller's input is wrong; nothing was changed."""

    code = "invalid_request"
    http_status = 400
    exit_code = 2
    is_definite = True


class InvalidSpecError(InvalidRequestError):
    """A service or Compose file is wrong; `problems` lists every finding."""

    code = "invalid_spec"
    http_status = 422


class InvalidConfigError(InvalidRequestError):
    """The node's own configuration is wrong."""

    code = "invalid_config"


class PayloadTooLargeError(InvalidRequestError):
    """A body or a file is larger than its limit."""

    code = "payload_too_large"
    http_status = 413


class MethodNotAllowedError(InvalidRequestError):
    """The path exists, but not for this method; the message lists those that it has."""

    code = "method_not_allowed"
    http_status = 405


class UnsupportedMediaTypeError(InvalidRequestError):
    """The body's content type is none that the route takes."""

    code = "unsupported_media_type"
    http_status = 415


class UnauthorizedError(OrcaError):
    """The caller did not prove who it is: no token, or one that is not accepted; nothing was changed."""

    code = "unauthorized"
    http_status = 401
    exit_code = 7
    is_definite = True


class RateLimitedError(OrcaError):
    """The caller failed or asked too often in a short time; nothing was changed."""

    code = "rate_limited"
    http_status = 429
    exit_code = 5
    is_definite = True


class ForbiddenError(OrcaError):
    """The caller may not do this; nothing was changed."""

    code = "forbidden"
    http_status = 403
    exit_code = 7
    is_definite = True


class RemovedError(ForbiddenError):
    """The node was removed from its cluster, which takes nothing from it any more."""

    code = "removed"


class NotFoundError(OrcaError):
    """The named thing does not exist."""

    code = "not_found"
    http_status = 404
    exit_code = 3
    is_definite = True


class AmbiguousNameError(InvalidRequestError):
    """A short name fits several things; the message lists them."""

    code = "ambiguous_name"
    http_status = 409


class ConflictError(OrcaError):
    """The change contradicts the present state, for example a route that is taken."""

    code = "conflict"
    http_status = 409
    exit_code = 4
    is_definite = True


class DeployFailedError(OrcaError):
    """A new revision did not become healthy; what served before still serves."""

    code = "deploy_failed"
    http_status = 409
    exit_code = 1
    is_definite = True


class NotAvailableError(OrcaError):
    """A node or the cluster cannot do it at present; a later try may succeed."""

    code = "not_available"
    http_status = 503
    exit_code = 5
    is_definite = True


class NotLeaderError(NotAvailableError):
    """The replica asked does not lead; nothing was proposed."""

    code = "not_leader"


class ProposalLostError(OrcaError):
    """The outcome is unknown: read first, or retry under the same `request_id`."""

    code = "proposal_lost"
    http_status = 503
    exit_code = 5


class StoreFullError(NotAvailableError):
    """The node's store has no room left; nothing was written."""

    code = "store_full"
    http_status = 507


class StoreStalledError(OrcaError):
    """The disk did not confirm a write in time; the write may still happen."""

    code = "store_stalled"
    http_status = 503
    exit_code = 6


class StoreCorruptError(OrcaError):
    """The store cannot be read as what it should be; the node refuses to guess."""

    code = "store_corrupt"
    exit_code = 6


class DataDirectoryLockedError(OrcaError):
    """Another node runs on this data directory."""

    code = "data_directory_locked"
    exit_code = 6
    is_definite = True


class AddressInUseError(OrcaError):
    """A port that the node needs is taken."""

    code = "address_in_use"
    exit_code = 6
    is_definite = True


class NodeUnreachableError(OrcaError):
    """No node answers at the given address."""

    code = "node_unreachable"
    http_status = 502
    exit_code = 5


class PeerProtocolError(OrcaError):
    """A peer or a server answered something that its protocol does not allow."""

    code = "peer_protocol"
    http_status = 502


class NotDeliveredError(OrcaError):
    """Whom a message was for did not take it, or nobody knows whether."""

    code = "not_delivered"
    http_status = 502
    exit_code = 5


class RuntimeFailedError(OrcaError):
    """A runtime could not do what was asked; the message carries its own words."""

    code = "runtime_failed"
    http_status = 502


class RuntimeUnavailableError(RuntimeFailedError):
    """The runtime does not answer (Docker stopped, hung or absent)."""

    code = "runtime_unavailable"
    http_status = 503
    exit_code = 5


class ImageNotFoundError(RuntimeFailedError):
    """The image is neither on the node nor in its registry."""

    code = "image_not_found"


class ModuleInvalidError(RuntimeFailedError):
    """The file is no WebAssembly module or component that can be run here."""

    code = "module_invalid"


class PortTakenError(RuntimeFailedError):
    """A host port that the spec publishes is in use on the node."""

    code = "port_taken"


class InstanceNotFoundError(NotFoundError):
    """The runtime has no instance of that allocation."""

    code = "instance_not_found"


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The JSON shape of every error that the API answers, under the key `error`."""

    code: str
    message: str
    hint: str = ""
    problems: tuple[Problem, ...] = ()
    is_definite: bool = False


class ErrorEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error answer."""

    error: ErrorBody


def error_classes() -> dict[str, type[OrcaError]]:
    """Every class of the tree by its code, the root included."""
    found: dict[str, type[OrcaError]] = {OrcaError.code: OrcaError}
    pending: list[type[OrcaError]] = [OrcaError]
    while pending:
        for child in pending.pop().__subclasses__():
            found[child.code] = child
            pending.append(child)
    return found


def to_body(error: OrcaError) -> ErrorBody:
    """What the API answers for `error`."""
    return ErrorBody(
        code=error.code,
        message=error.message,
        hint=error.hint,
        problems=error.problems,
        is_definite=error.is_definite,
    )


def from_body(body: ErrorBody) -> OrcaError:
    """The error that `body` was made of; an unknown code gives the root class."""
    made = error_classes().get(body.code, OrcaError)
    return made(body.message, problems=body.problems, hint=body.hint)
