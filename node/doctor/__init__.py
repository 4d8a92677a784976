"""What is wrong with a cluster, seen from any of its nodes, and what mends it.

Each node can examine itself and its ways to all others (`examine`): a gossip ping by UDP and by TCP and a call over
the mesh to each, from sockets of their own, so that what is found is the network and not the patience of a protocol.
Whoever is asked collects the reports of all nodes over the mesh, each within a deadline; one that cannot be had is a
finding, with the age of what was last heard. `judge` is pure: reports in, findings out.

A link is one-way where one end reaches the other and not the reverse; only both reports together show that, which is
why the answer of a single node is never enough.
"""
