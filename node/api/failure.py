"""The one place that turns what was raised into what is answered."""

from typing import Final

import structlog

from orca.errors import OrcaError, RateLimitedError, UnauthorizedError
from orca.http import Headers, Request, Response, error_response

_log: Final = structlog.get_logger("orca.api")


def known_error(error: BaseException) -> OrcaError | None:
    """The error of our tree that `error` is, also when a nursery wrapped it; None for a bug."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, OrcaError) else None


def to_known(request: Request | None, error: Exception) -> OrcaError:
    """`error` as one of our tree; a bug is logged and becomes `internal`, and the node lives on."""
    known = known_error(error)
    if known is not None:
        return known
    what = f"{request.method} {request.path}" if request is not None else "a request"
    _log.error("request_failed", request=what, peer=request.peer if request else "", exc_info=error)
    return OrcaError(f"the node failed to answer {what}", hint="the node's log has the details")


def answer_failure(request: Request | None, error: Exception) -> Response:
    """The error's own status and `{"error": …}`; 500 and `internal` for a bug."""
    known = to_known(request, error)
    headers: Headers = ()
    if isinstance(known, UnauthorizedError):
        was_shown = request is not None and request.header("authorization") is not None
        headers = (("www-authenticate", 'Bearer realm="orca"' + (', error="invalid_token"' if was_shown else "")),)
    elif isinstance(known, RateLimitedError):
        # Without the connection the next guess costs a new one.
        headers = (("retry-after", "2"), ("connection", "close"))
    return error_response(known, headers=headers)
