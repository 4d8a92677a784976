"""The log, the state that it replicates, and the plans made from that state.

- `raft` is the protocol (Ongaro's thesis): elections, replication, changes of the group, snapshots, reads.
- `state` is what the log builds: commands in, outcomes out, the same on every node.
- `scheduler` makes plans from intent and beliefs, for the leader; `duties` are what else a leader does unasked.
- `subgroup` decides which nodes vote, and what speaks against starting a group anew.
- `feed` streams committed entries to nodes without a vote, from whichever node.
- `storage` says what a log store must keep; `node/store` keeps it, in a file.
- `replica` puts machine and state together and is pure; `driver` runs one on trio, `asking` is what callers see of it.

A *term* has one leader at most. An *epoch* is a life of the group: it goes up when people start the group anew from
one survivor, and what is written in an older epoch is another past that nobody mixes with it.
"""
