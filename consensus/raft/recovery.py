"""Starting a group anew by hand, when it has lost its quorum for good. Pure.

One survivor's log becomes the group's: everything in it counts as committed from then on, also
what had not been (it may have been; nobody is left to ask). The new life has a higher epoch, and
whoever comes back with an older one is outranked. What the others knew and the survivor did
not is lost, which is why a person has to decide it, on the survivor that knows most.
"""

from typing import NamedTuple

from consensus.storage import Entry, EntryKind, HardState, LogWrite, Membership, encode_membership
from orca.model.ids import LogIndex, NodeId, Term


class LogPosition(NamedTuple):
    """How much a node knows: of two in the same epoch the greater one knows all that the other knows is committed."""

    epoch: int
    last_term: Term
    last_index: LogIndex


def recovery_write(node: NodeId, term: Term, position: LogPosition) -> LogWrite:
    """What makes `node` the only voter of the next epoch, after its own log as it is."""
    next_term = Term(term + 1)
    alone = Membership(voters=(node,))
    entry = Entry(
        term=next_term,
        index=LogIndex(position.last_index + 1),
        payload=encode_membership(alone),
        kind=EntryKind.MEMBERSHIP,
    )
    return LogWrite(hard_state=HardState(term=next_term, voted_for=None, epoch=position.epoch + 1), entries=(entry,))
