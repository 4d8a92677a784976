"""Who may call: protection of a local API from web pages that a browser shows. Pure."""

import ipaddress
from urllib.parse import urlsplit

import msgspec

from orca.errors import ForbiddenError
from orca.http import Request

_READING = frozenset({"GET", "HEAD"})


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one TCP listener.

    A page of some site can make a browser send requests to 127.0.0.1. Its scripts could
    read the answers when the site's own name resolves to 127.0.0.1 (DNS rebinding), so a
    loopback listener (`names` is not None) takes only names of this computer in `Host`.
    And it can send forms without reading answers, so a request that changes something,
    or opens a WebSocket, must not come from another origin.
    """

    names: frozenset[str] | None

    def check(self, request: Request) -> None:
        """Raises `ForbiddenError`."""
        host = request.header("host") or ""
        if self.names is not None and host and not self._is_ours(host):
            raise ForbiddenError(
                f"the field Host is {host[:80]!r}, which is no name of this computer",
                hint="ask by 127.0.0.1 or localhost, or set api_host to that name",
            )
        origin = request.header("origin")
        is_reading = request.method in _READING and request.header("upgrade") is None
        if origin is not None and not is_reading and _authority(origin) != host.lower():
            raise ForbiddenError(f"a page of {origin[:80]!r} may not change anything on {host[:80]!r}")

    def _is_ours(self, host: str) -> bool:
        assert self.names is not None, "asked only where names are limited"
        name = _hostname(host)
        if name == "localhost" or name.endswith(".localhost") or name in self.names:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


def make_guard(address: str, names: tuple[str, ...]) -> Guard:
    """The guard of connections to `address`; `names` are further names of this node.

    For who is trusted because he connects from this computer, whatever address he connects to, it is
    that of a loopback address: a browser connects from here too.
    """
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return Guard(names=None)
    return Guard(names=frozenset(name.lower() for name in names))


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
