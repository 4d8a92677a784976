"""How an exchange fails inside the proxy: whose fault it is decides what happens next.

These never leave the package: they become a short page, a reset, or another try.
"""


class RefusedRequestError(Exception):
    """The request gets a page with `status`, then its connection ends.

    `reason` goes to the client: constant words about its own request, no echo of it.
    `may_keep_alive` is True when the request was understood and read to its end. `location` is where the client
    should ask instead.
    """

    def __init__(self, status: int, reason: str = "", *, may_keep_alive: bool = False, location: str = "") -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.may_keep_alive = may_keep_alive
        self.location = location


class BadHeadError(Exception):
    """The bytes are no head that two parsers must read alike; `status` says it to a client."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class BadBodyError(Exception):
    """The bytes of a body break its framing, or it ended early."""


class WireError(Exception):
    """A connection broke off, or made no progress in time (`is_timeout`)."""

    def __init__(self, reason: str, *, is_timeout: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_timeout = is_timeout


class ClientGoneError(WireError):
    """The client left or stalls: nobody is there to answer."""


class UpstreamLostError(WireError):
    """The target refused, broke off, stalls or answered what HTTP does not allow.

    `is_unsent`: it certainly saw nothing of the request. `is_silent`: it died before the
    first byte of an answer.
    """

    def __init__(
        self, reason: str, *, is_timeout: bool = False, is_unsent: bool = False, is_silent: bool = False
    ) -> None:
        super().__init__(reason, is_timeout=is_timeout)
        self.is_unsent = is_unsent
        self.is_silent = is_silent
