"""The subject of a mesh stream that carries calls of the API: for whom a node asks another one. Pure."""

from typing import Final

import msgspec

from node.api.caller import Caller, caller_of
from orca.errors import ForbiddenError, PeerProtocolError, UnauthorizedError
from orca.model.ids import NodeId, ProjectName, StateRevision, TokenId
from orca.model.trust import ApiRole, TokenGrant

BYTES_MAX: Final = 32 * 1024


class Passport(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked the node that asks.

    `revision` is the state in which that node let him in: who answers catches up with it before it
    judges for itself. Unknown fields are ignored, so that a newer node may say more.
    """

    actor: str
    origin: str
    role: ApiRole
    projects: tuple[ProjectName, ...] = ()
    token: TokenId | None = None
    revision: StateRevision


def issue(caller: Caller, revision: StateRevision) -> bytes:
    """The subject for a call of `caller`; he has proved who he is, and the call has not been passed on before."""
    assert caller.role is not None, "nobody is passed on"
    assert not caller.is_relayed, "a call is passed on once"
    return msgspec.msgpack.encode(
        Passport(
            actor=caller.actor,
            origin=caller.origin,
            role=caller.role,
            projects=caller.projects,
            token=caller.token,
            revision=revision,
        )
    )


def read_passport(subject: bytes) -> Passport:
    """What `subject` says; raises PeerProtocolError."""
    if len(subject) > BYTES_MAX:
        raise PeerProtocolError(f"the subject of a call has {len(subject)} bytes; at most {BYTES_MAX} are read")
    try:
        return msgspec.msgpack.decode(subject, type=Passport)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PeerProtocolError(f"the subject of a call does not say who calls: {error}") from error


def admit(passport: Passport, peer: NodeId, grant: TokenGrant | None) -> Caller:
    """Who calls, judged here again.

    Of a token only its id is believed; what it gives is `grant`, from this node's own copy of the
    state, None when it gives nothing. Everybody else was let in by the door of `peer` itself, which is
    believed as a member of the cluster: its owner could propose any change there. Raises
    UnauthorizedError and ForbiddenError.
    """
    origin = f"{passport.origin} via node:{peer}"
    if passport.token is not None:
        if grant is None or grant.token != passport.token:
            raise UnauthorizedError(
                f"the right of {passport.actor[:80]} has ended: its token was revoked or has expired"
            )
        return caller_of(grant, origin, is_relayed=True)
    if passport.actor.startswith("token:"):
        raise ForbiddenError(f"{peer} passes a call of {passport.actor[:80]} on and does not say by which token")
    return Caller(actor=passport.actor, origin=origin, role=passport.role, projects=passport.projects, is_relayed=True)
