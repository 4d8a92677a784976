"""The group of voters as this node takes part in it.

`RaftTransport` carries the replica's messages over the mesh. `GroupKeeper` is the leader's
duty of keeping the group right: every second it looks at what gossip and Raft know of each
node, asks `consensus.subgroup` for the one change to make, and makes it.

A node that joins begins with an empty log and no group: it follows, and the leader seats it when there is a
seat. Only nodes that are in the state get one: who may be there is decided by `node.trust`, never by gossip.

When a quorum of voters is gone for good, `Recovery` starts the group anew from one survivor, after it asked all
others that live how much they know. A node that comes back with a log of the old life sets it aside in a file
and follows.

Take each from its own module: who only carries messages need not load the gossip that the keeper looks at.
"""
