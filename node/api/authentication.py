"""Who a request comes from: bearer tokens, the uid behind a unix socket, loopback."""

import ipaddress
from collections.abc import Callable
from typing import Final, Protocol

import trio

from node.api.caller import Caller, Peer, PeerKind, Standing, caller_of
from node.api.control import TokenControl
from node.api.guard import Guard
from node.api.passport import Passport, admit
from node.api.throttle import FailureLimiter
from orca.errors import ForbiddenError, OrcaError, RateLimitedError, UnauthorizedError
from orca.http import Request
from orca.model.api_token import parse_api_token
from orca.model.ids import NodeId, TokenId
from orca.model.trust import ApiRole
from orca.model.units import Instant

RECHECK_S: Final = 1.0
"""A stream outlives its token by so long at most."""
HEADER_MAX: Final = 4096
_SCHEME: Final = "bearer"
_HOW: Final = (
    "show one with --token, $ORCA_TOKEN or `authorization: Bearer …`; "
    "`orca token create --api NAME` on a node makes one"
)


class Gate:
    """What the doors of one node have in common.

    `owner_uid`: whose node it is; he and root are admins through the unix socket. `trusts_loopback`:
    whoever connects from this computer by TCP is an admin without a token.
    """

    def __init__(
        self, tokens: TokenControl, now: Callable[[], Instant], *, owner_uid: int, trusts_loopback: bool
    ) -> None:
        self._tokens = tokens
        self._now = now
        self._owner_uid = owner_uid
        self._trusts_loopback = trusts_loopback
        self.limiter = FailureLimiter(now())

    def trusts(self, peer: Peer) -> bool:
        """Whether `peer` is let in for where it connects from, a place from which a browser connects too."""
        return peer.kind is PeerKind.TCP and self._trusts_loopback and is_loopback(peer.address)

    def identify(self, peer: Peer, request: Request) -> Caller:
        """Who sent `request` over a connection of `peer`.

        A token goes before everything else: who shows one is what it says, on loopback too. Raises
        UnauthorizedError, RateLimitedError, and ForbiddenError for a unix peer without a right.
        """
        shown = [value for name, value in request.headers if name == "authorization"]
        if shown:
            return self._by_token(peer, shown)
        if peer.kind is PeerKind.UNIX:
            return self._by_uid(peer)
        if self.trusts(peer):
            return Caller(actor="loopback", origin=str(peer), role=ApiRole.ADMIN)
        raise self._failed(peer, UnauthorizedError("a token is needed here", hint=_HOW))

    def _by_uid(self, peer: Peer) -> Caller:
        if peer.uid not in {0, self._owner_uid}:
            raise ForbiddenError(
                f"the user {peer.uid} has no right to this node's socket: it is for user {self._owner_uid} and root",
                hint=_HOW,
            )
        return Caller(actor=str(peer), origin="local", role=ApiRole.ADMIN)

    def _by_token(self, peer: Peer, shown: list[str]) -> Caller:
        scheme, _, text = shown[0].partition(" ")
        token = parse_api_token(text.strip()) if len(shown) == 1 and len(text) <= HEADER_MAX else None
        if scheme.lower() != _SCHEME or token is None:
            raise self._failed(peer, UnauthorizedError("the field Authorization has no API token", hint=_HOW))
        try:
            grant = self._tokens.admit(token.id, token.secret_hash)
        except UnauthorizedError as error:
            raise self._failed(peer, error) from None
        return caller_of(grant, str(peer))

    def _failed(self, peer: Peer, error: UnauthorizedError) -> OrcaError:
        if self.limiter.fail(peer.address or str(peer), self._now()):
            return error
        return RateLimitedError("too many calls without a right token came from this address; wait a few seconds")

    def standing(self, caller: Caller) -> Standing:
        """How a stream of `caller` learns that its right has ended."""

        async def ended() -> OrcaError:
            if caller.token is None:
                await trio.sleep_forever()
            while (error := self._lapsed(caller)) is None:  # noqa: ASYNC110 - an expiry sends no event
                await trio.sleep(RECHECK_S)
            return error

        return ended

    def _lapsed(self, caller: Caller) -> OrcaError | None:
        token: TokenId | None = caller.token
        grant = None if token is None else self._tokens.grant(token)
        if grant is None:
            return UnauthorizedError(f"the right of {caller.actor} has ended: its token was revoked or has expired")
        return None


class Entrance(Protocol):
    """How the calls of one connection are let in: `Door`, or `NodeDoor` for those of another node."""

    peer: Peer

    def check(self, request: Request) -> None:
        """Raise ForbiddenError for what a web page of somebody else made a browser send."""
        ...

    def identify(self, request: Request) -> Caller:
        """Who sent it; raises UnauthorizedError, RateLimitedError and ForbiddenError."""
        ...

    def standing(self, caller: Caller) -> Standing:
        """How a stream learns that the caller's right has ended."""
        ...


class Door:
    """How one connection is let in: the guard against web pages, then who it is."""

    def __init__(self, trust: Gate, peer: Peer, guard: Guard | None = None) -> None:
        self._trust = trust
        self.peer = peer
        self._guard = guard

    def check(self, request: Request) -> None:
        """Raise ForbiddenError for what a web page of somebody else made a browser send."""
        if self._guard is not None:
            self._guard.check(request)

    def identify(self, request: Request) -> Caller:
        """Who sent it; see `Gate.identify`."""
        return self._trust.identify(self.peer, request)

    def standing(self, caller: Caller) -> Standing:
        """How a stream learns that the caller's right has ended."""
        return self._trust.standing(caller)


class NodeDoor:
    """How calls of another node are let in, for whom they were made; see `passport.py`."""

    def __init__(self, trust: Gate, tokens: TokenControl, node: NodeId, passport: Passport) -> None:
        self._trust = trust
        self._tokens = tokens
        self._node = node
        self._passport = passport
        self.peer = Peer(kind=PeerKind.NODE, address=node)

    def check(self, request: Request) -> None:
        """No browser is at the other end."""

    def identify(self, request: Request) -> Caller:
        """For whom; judged by this node's own copy of the state."""
        token = self._passport.token
        return admit(self._passport, self._node, None if token is None else self._tokens.grant(token))

    def standing(self, caller: Caller) -> Standing:
        """How a stream learns that the caller's right has ended."""
        return self._trust.standing(caller)


def is_loopback(address: str) -> bool:
    """Whether `address` is of this computer; an IPv4 address inside of IPv6 counts as what it is."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped.is_loopback
    return found.is_loopback
