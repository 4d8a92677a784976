"""Membership and health by gossip: what each node believes of the others.

SWIM (Das, Gupta, Motivala 2002) with the refinements of Lifeguard (Dadgar, Phillips, Currey 2017), in the dialect of
memberlist and Serf, so that a real Serf agent can be a member. Nothing here is agreed upon: beliefs are spread, grow
old, and are overruled by whoever knows newer (`incarnation`). What the cluster decides is `consensus`'s affair.

- `messages` are what members say, `codec` is how it looks on the wire.
- `swim` probes, suspects and refutes; `serf` orders joins, leaves, events and queries by Lamport clocks; `facts`
  spreads what nodes tell of themselves. `machine` puts the three together: `step(event, now) -> effects`, no IO.
- `driver` performs the effects on UDP and TCP, and is the only module that waits.
- `rpc` serves the part of Serf's RPC that its command line uses, and asks a real agent when that is the backend.
"""
