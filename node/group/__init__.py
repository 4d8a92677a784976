"""The group of voters as this node takes part in it.

`RaftTransport` carries the replica's messages over the mesh. `GroupKeeper` is the leader's
duty of keeping the group right: every second it looks at what gossip and Raft know of each
node, asks `consensus.subgroup` for the one change to make, and makes it. `adopt` finds out, before
a new node starts, which cluster its peers belong to.

A node that joins begins with an empty log and no group: it waits, and the leader, which sees
it in the gossip with the cluster's name on it, admits it and seats it when there is a seat.
"""

from node.group.keeper import GroupKeeper
from node.group.transport import RaftTransport

__all__ = ["GroupKeeper", "RaftTransport"]
