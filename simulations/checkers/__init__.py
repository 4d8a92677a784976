"""Judges of a run: one property a file.

`raft` watches each step of every node: election safety, log matching, leader completeness and state-machine
safety (Raft, figure 3.2 of the thesis). `promises` compares what a node says with what is on its disk. `linearizable`
and `durability` know only what clients asked for and were told, so they judge any engine.
Whether a group works again after everything was healed is asked by `scenarios.progress`.

Of gossip: `completeness` (crashes are found in time), `accuracy` (the living are not buried), `convergence` (repaired,
all agree), `traffic` (quiet without news, never a storm) and `memory` (tables and queues are bounded).

Of whole nodes: `capacity` (no node runs more than it has), `replacement` (nothing that serves is told to stop before
there is something in its place), `routes` (requests go where they are answered), `acknowledged` (what was confirmed
stays) and `settled` (repaired, everything is as it was asked to be, once, and all nodes know it).
"""
