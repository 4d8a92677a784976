"""Whom a node believes, and why not. Pure: certificates, states and times go in, an identity or an error comes out.

A certificate is good when an authority of the cluster signed it, its time is now, and the state lists it. A node
that has just started or was cut off knows an old state: certificates may have been given out and listed that it has
not heard of. So while its knowledge is old (`is_current` False) it also takes, on the word of the authority alone, a
certificate that was made after all that it knows. Without that a node whose peers all renewed while it was away
could never find out. Who was removed is refused in any case, and as soon as the node has caught up
only the list counts. With one exception: a node all of whose listed certificates have expired, because it was off
for so long, may show a newer one that it made itself for the key which the state knows; else it could reach nobody to
have it listed.
"""

from collections.abc import Sequence
from typing import Final

from cryptography import x509

from consensus.state.applying.tokens import join_token_problem
from consensus.state.cluster import ClusterState
from consensus.state.records import NodeRecord
from node.trust.authority import (
    BACKDATED_MS,
    certified_key,
    fingerprint_of,
    identity_in,
    is_signed_by,
    lifetime_of,
    load_certificate,
    read_request,
    show_time,
)
from node.trust.messages import JOIN_VERSION, JoinRequest, Offer
from orca.errors import ConflictError, ForbiddenError, InvalidRequestError, PeerProtocolError, RemovedError
from orca.model.ids import ClusterId, NodeId
from orca.model.join_token import JoinToken, hash_secret, short_fingerprint
from orca.model.units import WallMs

CLOCK_APART_MS: Final = 5 * 60_000
CHAIN_MAX: Final = 8
_NEW_TOKEN: Final = "make a new one with `orca token create` on a living node of the cluster"  # noqa: S105


# ------------------------------------------------------------------------------- on the mesh


def judge_certificate(
    certificate: bytes,
    state: ClusterState,
    anchors: Sequence[bytes],
    *,
    cluster: ClusterId,
    now_ms: WallMs,
    is_current: bool,
) -> NodeId:
    """Whose certificate it is. Raises ForbiddenError saying why it is not good here and now.

    `anchors`: the authorities that are believed (DER).
    """
    parsed = _parsed(certificate)
    named = identity_in(parsed)
    if named is None:
        raise ForbiddenError("the peer's certificate names no node of a cluster; it was not made by Orca")
    if named[0] != cluster:
        raise ForbiddenError(f"{named[1]} belongs to cluster {named[0]}, this node to {cluster}")
    node = named[1]
    _check_time(parsed, str(node), now_ms)
    revoked = state.revoked.get(node)
    if revoked is not None:
        raise RemovedError(f"{revoked.name} ({node}) was removed from this cluster by {revoked.actor}")
    record = state.nodes.get(node)
    fingerprint = fingerprint_of(certificate)
    is_listed = record is not None and any(one.fingerprint == fingerprint for one in record.certificates)
    if is_listed:
        if not any(is_signed_by(parsed, load_certificate(anchor)) for anchor in anchors):
            raise ForbiddenError(f"the certificate of {node} was signed by a CA that this cluster trusts no more")
        return node
    if record is not None and _is_renewed_late(parsed, record, anchors, now_ms):
        return node
    if not is_current and lifetime_of(parsed)[0] + BACKDATED_MS >= newest_known_ms(state):
        return node  # its chain was checked in the handshake
    why = "is not a node of this cluster" if record is None else "shows a certificate that is not valid any more"
    raise ForbiddenError(f"{node} {why}; if it belongs here, join it anew: {_NEW_TOKEN}")


def _is_renewed_late(
    certificate: x509.Certificate, record: NodeRecord, anchors: Sequence[bytes], now_ms: WallMs
) -> bool:
    """Whether nothing that is listed of the node is good any more, and this is for its own key."""
    return (
        bool(record.key)
        and certified_key(certificate) == record.key
        and all(one.not_after_ms < now_ms for one in record.certificates)
        and any(is_signed_by(certificate, load_certificate(anchor)) for anchor in anchors)
    )


def newest_known_ms(state: ClusterState) -> int:
    """When the last thing happened that this state knows of, by its proposer's clock; 0 for an empty one."""
    return state.audit[next(reversed(state.audit))].at_ms if state.audit else 0


def _parsed(certificate: bytes) -> x509.Certificate:
    try:
        return load_certificate(certificate)
    except PeerProtocolError as error:
        raise ForbiddenError(error.message) from error


def _check_time(certificate: x509.Certificate, whose: str, now_ms: WallMs) -> None:
    begins, ends = lifetime_of(certificate)
    if now_ms < begins:
        raise ForbiddenError(
            f"the certificate of {whose} is good from {show_time(begins)} and it is {show_time(now_ms)} here; "
            "one of the two clocks is wrong: compare `date -u` on both"
        )
    if now_ms > ends:
        raise ForbiddenError(
            f"the certificate of {whose} expired at {show_time(ends)} and it is {show_time(now_ms)} here; "
            "if the clock is right (`date -u`), join that node anew with a token"
        )


# ------------------------------------------------------------------------- the joiner's side


def judge_offer(offer: Offer, leaf: bytes, token: JoinToken, peer: str, now_ms: WallMs) -> None:
    """Raise unless who answered at `peer` (with certificate `leaf`) is a node of the cluster that made `token`.

    Before this has returned nothing is said to it.
    """
    if offer.version != JOIN_VERSION:
        raise PeerProtocolError(
            f"the node at {peer} speaks version {offer.version} of joining and this one {JOIN_VERSION}; "
            "install the same release on both"
        )
    shown = {short_fingerprint(fingerprint_of(one)): one for one in offer.authorities}
    root = shown.get(token.fingerprint)
    if root is None:
        raise ForbiddenError(
            f"the CA of whoever answers at {peer} is {', '.join(shown) or 'none'}, and the token is for CA "
            f"{token.fingerprint}: it is another cluster, the token is older than a change of its CA, or somebody "
            "stands between. Nothing was sent",
            hint=f"check the address; if it is right, {_NEW_TOKEN}",
        )
    certificate = _parsed(leaf)
    if not _leads_to(certificate, [*offer.cross, *offer.authorities], load_certificate(root)):
        raise ForbiddenError(
            f"whoever answers at {peer} has no certificate of CA {token.fingerprint}, which it shows: "
            "somebody stands between, or it is not a node of that cluster any more. Nothing was sent",
            hint="join through another node, and look at who answers at that address",
        )
    named = identity_in(certificate)
    if named is None or named[0] != offer.cluster:
        raise ForbiddenError(f"the certificate of the node at {peer} is not for cluster {offer.cluster}")
    if abs(offer.wall_ms - now_ms) > CLOCK_APART_MS:
        raise clocks_apart("this computer", now_ms, f"the node at {peer}", offer.wall_ms)
    _check_time(certificate, f"the node at {peer}", now_ms)


def clocks_apart(here: str, here_ms: int, there: str, there_ms: int) -> ForbiddenError:
    """Both times, and what to do."""
    apart_s = abs(here_ms - there_ms) // 1000
    return ForbiddenError(
        f"the clocks are {apart_s} s apart: it is {_shown(here_ms)} on {here} and {_shown(there_ms)} on {there}; "
        f"certificates need them within {CLOCK_APART_MS // 60_000} minutes",
        hint="compare `date -u` on both and set the wrong one, for example with a time service (NTP)",
    )


def _shown(at_ms: int) -> str:
    return show_time(min(max(at_ms, 0), 253_402_300_000_000))


def _leads_to(leaf: x509.Certificate, between: Sequence[bytes], root: x509.Certificate) -> bool:
    """Whether signatures lead from `leaf` to `root`, over some of `between`."""
    candidates = [load_certificate(one) for one in between[:CHAIN_MAX]]
    reached, left = [leaf], candidates
    for _ in range(3):
        if any(is_signed_by(one, root) for one in reached):
            return True
        nearer = [issuer for issuer in left if any(is_signed_by(one, issuer) for one in reached)]
        left = [one for one in left if one not in nearer]
        reached = nearer
    return False


# ------------------------------------------------------------------------- the member's side


def judge_token(request: JoinRequest, state: ClusterState, now_ms: WallMs) -> None:
    """Raise ForbiddenError for a token that is not valid; the only thing that counts as a wrong try."""
    problem = join_token_problem(state, request.token, hash_secret(request.secret), now_ms)
    if problem:
        raise ForbiddenError(problem, hint=_NEW_TOKEN)


def judge_request(request: JoinRequest, state: ClusterState, cluster: ClusterId, now_ms: WallMs) -> str:
    """The fingerprint of the joiner's key. Raises for a request that the state would refuse, or should.

    Asked after the token was found to be valid.
    """
    if request.version != JOIN_VERSION:
        raise PeerProtocolError(
            f"{request.name} speaks version {request.version} of joining and this node {JOIN_VERSION}; "
            "install the same release on both"
        )
    if abs(request.wall_ms - now_ms) > CLOCK_APART_MS:
        raise clocks_apart(request.name[:64], request.wall_ms, "the node that was asked", now_ms)
    if len(request.wrap_key) != 32:
        raise InvalidRequestError("the joining node sent no X25519 key; start its join anew")
    key = read_request(request.csr, cluster, request.node)
    revoked = state.revoked.get(request.node)
    if revoked is not None:
        raise ForbiddenError(
            f"{revoked.name} ({revoked.id}) was removed from this cluster by {revoked.actor}, for ever",
            hint="start with an empty data directory (--data-dir) and a new token",
        )
    token, known = state.join_tokens[request.token], state.nodes.get(request.node)
    if known is not None and known.key != key:
        raise ForbiddenError(
            f"{request.node} is a node of this cluster with another key, which it keeps in its data directory"
        )
    comes_again = known is not None and any(one.node == request.node and one.key == key for one in token.redeemed)
    if token.uses_left < 1 and not comes_again:
        by = ", ".join(str(one.node) for one in token.redeemed[-3:])
        raise ForbiddenError(f"the join token {token.id} is used up (by {by})", hint=_NEW_TOKEN)
    other = next((one for one in state.nodes.values() if one.name == request.name and one.id != request.node), None)
    if other is not None:
        raise ConflictError(
            f"another node is called {request.name} already ({other.id}); join under another name with --name, "
            "or join with that node's own data directory if this is the same computer"
        )
    return key
