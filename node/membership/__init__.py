"""Gossip as a node uses it: who is there, what they say, and what people can ask of it.

`Membership` finds the cluster by its seeds, shows members as people see them, and hands on what
comes. Who keeps the membership is a choice (`gossip.backend`): `embedded`, the gossip of this node
itself, which also keeps over restarts what has to be kept (peers, clocks, incarnation, keyring) and
serves Serf's RPC when it is given a key; or `delegated`, a Serf agent beside the node. In a gossip of
our own a member is called by its node id, because names for people may change and may be given
twice; the name is a tag. The others are in `tags`.

What comes goes three ways: membership and user events into the node's event history (`chronicle`); facts of nodes
of the same cluster into the node's beliefs; the rest to whoever waits for it. Facts of other clusters' nodes are
ignored: sharing a gossip is not yet belonging together.

Facts that this node tells: `node` (what `orca.model.node.NodeFacts` holds) and one
`status/<allocation>` for each copy that it runs, which vanish half a minute after it does.
"""

from node.membership.membership import Membership

__all__ = ["Membership"]
