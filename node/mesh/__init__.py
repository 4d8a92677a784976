"""Connections between nodes: one listener, one connection for each purpose.

Who connects says first what it is (`Hello`: protocol version, cluster, node, purpose)
and what it wants; who listens answers `Welcome`, or `Refused` with a code and a
sentence, and closes. Until both have spoken nothing else is read, and both have
`HELLO_TIMEOUT_S` for it. Every purpose has a connection of its own, so that a snapshot
on its way never stands in front of a heartbeat.

Purposes: `raft` carries the votes and entries of the group, from the one who connects
to the one who listens, and nothing back; `intent` streams the committed log to a node
without a vote; `content` carries one module or file by its digest; `facts` carries what nodes
say of themselves where gossip cannot (`node.membership.delegated`), one way like `raft`.

Nodes are told apart by what they say of themselves, so a listener takes loopback
addresses only: a stranger on the network could say anything.
"""
