"""Commands about leases. `clock_ms` is lease time, which the leader stamps: see `consensus.state.applying.leases`."""

from typing import TypeAlias

from consensus.state.commands.base import Duty, Part
from orca.model.ids import LeaseEpoch, LeaseName, NodeId


class LeaseRef(Part, frozen=True, kw_only=True):
    """One holding of a lease: void as soon as somebody else holds it."""

    lease: LeaseName
    epoch: LeaseEpoch


class AcquireLease(Duty, frozen=True, kw_only=True, tag="acquire_lease"):
    """Give a free lease to `holder` on `node` for `ttl_ms`, with a new epoch.

    `holder` names one incarnation of what wants it (an allocation and its start): the same
    one asking again keeps its epoch, another one waits until the lease is released or expired.
    """

    lease: LeaseName
    node: NodeId
    holder: str
    ttl_ms: int
    clock_ms: int


class RenewLeases(Duty, frozen=True, kw_only=True, tag="renew_leases"):
    """Prolong what `node` holds; the outcome lists those that it still holds, the others are lost."""

    node: NodeId
    leases: tuple[LeaseRef, ...]
    clock_ms: int


class ReleaseLeases(Duty, frozen=True, kw_only=True, tag="release_leases"):
    """`node` has stopped using these; others may have them at once."""

    node: NodeId
    leases: tuple[LeaseRef, ...]


class ExpireLeases(Duty, frozen=True, kw_only=True, tag="expire_leases"):
    """The leader has waited out these leases; those that were renewed meanwhile stay."""

    leases: tuple[LeaseRef, ...]
    clock_ms: int


LeaseCommand: TypeAlias = AcquireLease | RenewLeases | ReleaseLeases | ExpireLeases
