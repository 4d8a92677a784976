"""The version of this program, readable without importing anything, `typing` neither.

**Nodes of neighbouring releases work together**, so that a cluster is updated one node at a time. The rules:

1. *Messages* (mesh, join, trust, intent, Raft, passports, facts of nodes and copies, answers of the API): a reader
   leaves out fields that it does not know, and a new field has a default. No field changes its meaning. Requests of the
   API are strict: what a node does not know it refuses, because it could not do it.
2. *Mesh*: HELLO names a range of versions, and both speak the newest that both know; releases with none in common
   refuse each other and name both ranges. Frames whose kind is 128 or more may be left out (`node.mesh.session`).
3. *Joining*: another version of the conversation is refused by whoever hears of it first, by name.
4. *Gossip*: unknown tags are ignored. A frame of facts of another schema is dropped and counted; messages in it are
   arrays that grow at their end. What cannot be read of a fact is counted, and the fact is not believed.
5. *The replicated log and the state* are strict: a command, a field or a snapshot that a release does not know stops it
   before it skips what others carry out, and its data stays whole. So nothing new is proposed before every node knows
   it: the schema in force says so (`consensus.state.schema`).

`tests/recorded` has what each release said, and holds the present one to these rules.
"""

VERSION = "0.1.0"
