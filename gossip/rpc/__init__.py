"""Serf's RPC, both sides: theory of operation.

A Serf agent has, beside its gossip port, one for programs of the same computer (the `serf`
command line, for example): TCP, values of msgpack, a handshake, a key, then requests and
replies, and streams of records. Here are

- a client (`driver.connect`) of all twenty commands, with streams as bounded trio channels;
- a server (`server.RpcServer`): the same port on our node, opt-in with a key, so that the
  real `serf` works against it; it serves from an `RpcBackend` (`backend`);
- two memberships (`gossip.membership`), held to one contract: our own gossip
  (`embedded.GossipMembership`, which is the server's backend too) and one that leaves the
  gossip to an agent beside the node (`delegate.SerfMembership`).

What is pure: `protocol` (values, headers, limits), `requests` and `records` (bodies as
structs), `conversation` (the client's half of a connection) and `server.session` (the
server's half), `server.selection` and `delegate.differences`. Bytes from outside meet only
those; whatever cannot be read is a `CodecError`, in the client a `PeerProtocolError`, and
ends the one connection on which it came, because after it nobody knows where the next value
begins. Files named driver.py do the IO.

        client                                     server
    Conversation.begin -> header, body   ->   Session.receive -> Say | Perform | HangUp
    Conversation.receive -> Reply, Record  <- header (error), body or record

Whether a body follows a header is known from the command alone, and an error of the
command itself does not change it, while one that comes before the command is looked at (no
handshake, no key) has no body; Serf's own client hangs when a server does otherwise.

No reader of a stream can hold up anything: the client ends a stream whose reader is behind
by a thousand records, the server ends a connection with a megabyte of them waiting. Serf
drops single records in silence; we would rather be known to be incomplete.
"""
