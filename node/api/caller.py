"""Who calls, and what that entitles them to. Pure."""

import enum
from collections.abc import Awaitable, Callable

import msgspec

from orca.errors import ForbiddenError, OrcaError
from orca.model.ids import ProjectName, ServiceId, TokenId, split_service_id
from orca.model.trust import ApiRole, Author, TokenGrant

_RANKS = {ApiRole.VIEWER: 1, ApiRole.DEPLOYER: 2, ApiRole.ADMIN: 3}


class PeerKind(enum.Enum):
    """Through which door a connection came."""

    UNIX = "unix"
    TCP = "tcp"
    NODE = "node"


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The other end of a connection. `address` is an IP address or a node's id; `uid` is of a unix peer."""

    kind: PeerKind
    address: str = ""
    port: int = 0
    uid: int = -1

    def __str__(self) -> str:
        match self.kind:
            case PeerKind.UNIX:
                return f"unix:{self.uid}"
            case PeerKind.TCP:
                return f"tcp:{self.address}:{self.port}"
            case PeerKind.NODE:
                return f"node:{self.address}"


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls. `role` None is nobody: somebody who proved nothing, for routes that are open to all.

    `is_relayed`: the call came from another node, which had it from `origin`; it goes no further.
    """

    actor: str
    origin: str
    role: ApiRole | None
    projects: tuple[ProjectName, ...] = ()
    token: TokenId | None = None
    is_relayed: bool = False

    @property
    def author(self) -> Author:
        """As the audit has it."""
        return Author(actor=self.actor, origin=self.origin)

    def may(self, role: ApiRole) -> bool:
        """Whether the caller's role includes `role`."""
        return self.role is not None and _RANKS[self.role] >= _RANKS[role]

    def sees(self, project: ProjectName) -> bool:
        """Whether the caller may act on `project`."""
        return not self.projects or project in self.projects

    def sees_service(self, service: ServiceId) -> bool:
        """Whether the caller may act on `service`."""
        return self.sees(split_service_id(service)[0])

    def check_project(self, project: ProjectName) -> None:
        """Raise ForbiddenError unless the caller may act on `project`."""
        if not self.sees(project):
            own = ", ".join(self.projects)
            raise ForbiddenError(f"{self.actor} has no right to the project {project[:80]!r}; its projects are {own}")


def caller_of(grant: TokenGrant, origin: str, *, is_relayed: bool = False) -> Caller:
    """Who shows the token of `grant`."""
    return Caller(
        actor=f"token:{grant.name}",
        origin=origin,
        role=grant.role,
        projects=grant.projects,
        token=grant.token,
        is_relayed=is_relayed,
    )


Standing = Callable[[], Awaitable[OrcaError]]
"""Waits until the right to a call has ended, and gives the error that says so; for streams."""
