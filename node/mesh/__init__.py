"""Connections between nodes: mutual TLS 1.3 on one port, one connection a pair, many streams on each.

**Who is who.** Both ends prove themselves with a certificate; `Credentials` say whose it is and
whether it is good still. What a peer says of itself counts for nothing. Who dials checks that it
reached the node it wanted. When certificates change, `Mesh.recheck` closes the connections whose
are good no more. ALPN tells a node (`orca-mesh/1`) from one who wants to become one
(`orca-join/1`): the latter has no certificate yet and is handed to the join handler, with a limit
on bytes, time and places.

**Streams.** Whoever wants something of a peer opens a stream for a `Purpose`, and the handler of that
purpose serves it: Raft messages from the one who sends them, the committed log for a node without
a vote, contents by their digest, images, what nodes say of themselves where gossip cannot
(`node.membership.delegated`), calls and requests on behalf of others. How streams share a connection
is said in `node.mesh.session`, a pure machine; `connection` runs one on trio, `tls` is the wire below it.

**One connection a pair.** It is dialled when somebody wants a stream and there is none. When both
dial at once, the one that the node with the smaller id dialled is kept, as soon as it has shown
that it is alive; the other takes no more streams and closes when its last one ends. A peer whose
process began anew is recognised (`boot`), and its old connection goes at once.

**Raft messages** wait in a `Link` for each peer, leave together with all that the same turn of the
loop brings, before everything else, and are dropped, the oldest first, when too many wait. All
other users of a stream wait until there is room.

**Strangers.** Handshakes take one turn of the loop each, so that a crowd of them does not stop the node; those
that are not done wait in a room with so many places, and whoever waits longest from the address that holds most
of them has to go for the next (`limits`). So who holds handshakes open starves nobody but itself.
"""
