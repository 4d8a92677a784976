"""Which key gossip has, beyond those who gossip: telling the cluster of a new one, and people of the present one."""

import base64
from typing import Protocol

import msgspec

from gossip.membership import KeyOperation
from gossip.membership import Membership as Members
from gossip.serf import RotationEnded
from node.membership.ring import GossipRing
from orca.errors import ConflictError, InvalidRequestError, NotAvailableError, OrcaError


class KeyLedger(Protocol):
    """Brings the key to nodes that do not hear it by gossip; `node.trust.gossip_keys` has it."""

    @property
    def version(self) -> int:
        """That of the present key."""
        ...

    async def rotated(self, key: bytes, since: int) -> None:
        """All who gossip have `key` in place of that of version `since`.

        Raises ConflictError when gossip has got yet another key meanwhile, other errors when it is tried again.
        """
        ...


async def record_key(ledger: KeyLedger, key: bytes, since: int, end: RotationEnded) -> RotationEnded:
    """Have `ledger` know what came of a rotation; the end as people are told of it."""
    try:
        await ledger.rotated(key, since)
    except ConflictError as error:
        return msgspec.structs.replace(end, is_done=False, reason=error.message)
    except OrcaError as error:
        waiting = "nodes that are away or beside an agent get the key when the cluster can be told of it again"
        return msgspec.structs.replace(end, reason=f"{waiting}: {error.message}")
    return end


async def sealing_key(members: Members, ring: GossipRing, *, is_beside: bool) -> str:
    """The key that seals gossip, base64: ours, or that of the agents where they gossip for us.

    Raises InvalidRequestError where gossip is not sealed, NotAvailableError when no agent tells.
    """
    if is_beside:
        report = await members.change_keys(KeyOperation.LIST)
        counts = report.primary_keys or report.keys
        if not counts:
            raise NotAvailableError("the agents did not say which key they have", hint="ask again")
        return max(counts, key=lambda key: (counts[key], key))
    if ring.codec_ring is None:
        raise InvalidRequestError(
            "gossip is not sealed here, so there is no key", hint="gossip.encrypt is off in this node's settings"
        )
    return base64.b64encode(ring.codec_ring.primary).decode()
