"""May a group be started anew from this node? Pure.

A quorum that is lost for good leaves nobody who could decide what was committed, so a person
picks the survivor to go on from. What a person cannot see is checked here: that the group is really
lost, and that no other survivor knows more. Of two logs of one epoch the one with the greater
(term of its last entry, last index) holds all that the other knows to be committed (thesis, §3.6.1 and
§3.6.3), so going on from the greatest loses nothing that any survivor has acknowledged.
"""

from collections.abc import Callable, Iterable

import msgspec

from consensus.raft.recovery import LogPosition, epoch_number
from consensus.storage import Membership
from orca.model.ids import LogIndex, NodeId, Term


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself: how far its log goes, and `leader`, whom it has heard lead just now."""

    node: NodeId
    epoch: int
    last_term: Term
    last_index: LogIndex
    leader: NodeId | None = None

    @property
    def position(self) -> LogPosition:
        """How much it knows."""
        return LogPosition(self.epoch, self.last_term, self.last_index)


class Objection(msgspec.Struct, frozen=True, kw_only=True):
    """Why not. `is_final`: force does not help."""

    message: str
    is_final: bool = False


def objections(
    own: Standing,
    membership: Membership,
    alive: Iterable[NodeId],
    others: Iterable[Standing],
    silent: Iterable[NodeId],
    name_of: Callable[[NodeId], str],
) -> list[Objection]:
    """All that speaks against starting the group anew from `own`, the final ones first.

    `alive`: who is believed to live, without this node. `others` are those of them that answered, `silent` those
    that did not.
    """
    voters, living = membership.voters, {own.node, *alive}
    voting = [voter for voter in voters if voter in living]
    final, other = [], []
    if not voters or not own.last_index:
        final.append("this node knows nothing of the group: its log is empty")
    if len(voting) * 2 > len(voters) > 0:
        final.append(
            f"{len(voting)} of {len(voters)} voters live ({', '.join(map(name_of, voting))}), which is a quorum: "
            "they can elect a leader themselves. If they cannot, stop those that do not work, and come again"
        )
    for one in sorted([own, *others], key=lambda standing: standing.node):
        if one.leader is not None:
            final.append(f"{name_of(one.node)} hears that {name_of(one.leader)} leads: the group is not lost")
        if one.epoch > own.epoch:
            final.append(
                f"{name_of(one.node)} knows of epoch {epoch_number(one.epoch)}: the group was started anew without "
                "this node, which will follow it"
            )
        elif one.position > own.position:
            other.append(
                f"{name_of(one.node)} knows more (entry {one.last_index} of term {one.last_term}; here it is entry "
                f"{own.last_index} of term {own.last_term}): run this there, or lose what only that node knows"
            )
    other += [
        f"{name_of(node)} is believed to live and does not answer, so nobody knows whether it knows more"
        for node in sorted(silent)
    ]
    return [Objection(message=message, is_final=True) for message in final] + [
        Objection(message=message) for message in other
    ]
