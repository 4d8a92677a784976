"""Gossip as a node uses it: who is there, what they say, and what people can ask of it.

`Membership` runs the gossip driver, finds the cluster by its seeds, keeps over restarts
what has to be kept (peers, clocks, the keyring), and shows members as people see them. A
member is called by its node id, because names for people may change and may be given twice;
the name is a tag. The other tags: `orca` (release), `cluster`, `zone`.

What comes by gossip goes three ways: membership and user events into the node's event
history; facts of nodes of the same cluster into the node's beliefs; the rest to whoever waits
for it (key operations). Facts of other clusters' nodes are ignored: sharing a gossip is not
yet belonging together.

Facts that this node tells: `node` (what `orca.model.node.NodeFacts` holds) and one
`status/<allocation>` for each copy that it runs, which vanish half a minute after it does.
"""

from node.membership.membership import Membership

__all__ = ["Membership"]
