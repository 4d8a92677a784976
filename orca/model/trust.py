"""Who may do what: the roles of nodes and of those who hold an API token; what an authority does."""

import enum

import msgspec

from orca.model.ids import ProjectName, TokenId


class NodeRole(enum.Enum):
    """What a join token lets a node become.

    A `member` may vote and may hold the cluster's keys; a `worker` runs work and follows
    the log, and is never asked to vote.
    """

    MEMBER = "member"
    WORKER = "worker"


class AuthorityState(enum.Enum):
    """What a certificate authority of the cluster does: it signs, or what it signed is still believed."""

    SIGNING = "signing"
    TRUSTED = "trusted"


class ApiRole(enum.Enum):
    """What the holder of an API token may do: everything, change services, or look."""

    ADMIN = "admin"
    DEPLOYER = "deployer"
    VIEWER = "viewer"


class Author(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for a change, and from where, as the audit has it.

    `actor` is `token:<name>`, `unix:<uid>`, `loopback` or `node:<id>`.
    """

    actor: str
    origin: str = ""


class TokenGrant(msgspec.Struct, frozen=True, kw_only=True):
    """What an accepted API token gives. No `projects` means all of them."""

    token: TokenId
    name: str
    role: ApiRole
    projects: tuple[ProjectName, ...] = ()
