"""Starting a group anew by hand, when it has lost its quorum for good. Pure.

One survivor's log becomes the group's: everything in it counts as committed from then on, also
what had not been (it may have been; nobody is left to ask). The new life has a higher epoch, and
whoever comes back with an older one is outranked. An epoch is a number that counts, and below it chance: two
halves of a cut network may both be started anew, and when they meet, one of them must outrank the
other. What the others knew and the survivor did not is lost, which is why a person has to decide
it, on the survivor that knows most.
"""

from typing import Final, NamedTuple

from consensus.storage import Entry, EntryKind, HardState, LogWrite, Membership, encode_membership
from orca.model.ids import LogIndex, NodeId, Term
from orca.sources import Rng

_CHANCE_BITS: Final = 32


def epoch_number(epoch: int) -> int:
    """How often the group was started anew, for people and for fencing."""
    return epoch >> _CHANCE_BITS


def next_epoch(epoch: int, rng: Rng) -> int:
    """The epoch of a life after `epoch`, unlike that of any other such life."""
    return (epoch_number(epoch) + 1 << _CHANCE_BITS) + int(rng.random() * 2**_CHANCE_BITS)


class LogPosition(NamedTuple):
    """How much a node knows: of two in the same epoch the greater one knows all that the other knows is committed."""

    epoch: int
    last_term: Term
    last_index: LogIndex


def recovery_write(node: NodeId, term: Term, position: LogPosition, epoch: int) -> LogWrite:
    """What makes `node` the only voter of `epoch` (`next_epoch`), after its own log as it is."""
    next_term = Term(term + 1)
    alone = Membership(voters=(node,))
    entry = Entry(
        term=next_term,
        index=LogIndex(position.last_index + 1),
        payload=encode_membership(alone),
        kind=EntryKind.MEMBERSHIP,
    )
    assert epoch > position.epoch, f"epoch {epoch} does not come after {position.epoch}"
    return LogWrite(hard_state=HardState(term=next_term, voted_for=None, epoch=epoch), entries=(entry,))


def blank_write(epoch: int) -> LogWrite:
    """What an emptied store begins with after `epoch` outranked it: its old life finds nobody here any more."""
    return LogWrite(hard_state=HardState(term=Term(0), voted_for=None, epoch=epoch))
