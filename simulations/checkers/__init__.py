"""Judges of a run: one property a file.

`raft` watches each step of every node: election safety, log matching, leader completeness and state-machine
safety (Raft, figure 3.2 of the thesis). `promises` compares what a node says with what is on its disk. `linearizable`
and `durability` know only what clients asked for and were told, so they judge any engine. `progress` asks, after
everything was healed, whether the group works again.
"""
