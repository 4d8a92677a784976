"""Who belongs to the cluster, and what proves it.

**Keys.** A node makes two keys once, with its id, and keeps them in its store: P-256 for TLS and X25519 for
data keys. A cluster has a CA (P-256, ten years) and a data key (AES-256-GCM). The CA's private key lies in the
state, sealed under the data key; the data key lies there too, wrapped for each member. So every member, and no
worker, can sign certificates and open secrets, and the log tells its reader nothing.

**Founding** (`founding`). The first `orca up` makes all of that, and a key for gossip, in one write to its own
store, and then puts it into the state step by step. Killed in between it goes on where it was.

**Joining** (`joining`, `entering`). `orca-join/1` on the mesh port. The member speaks first: it shows its CA. The
joiner compares the CA with its token's, and the member's certificate with the CA, before it says anything. The member
looks at the token before anything else, counts wrong ones (`attempts`) and never lets one into the log; it signs,
has the state admit the node together with its certificate, and only then answers. The joiner keeps the answer in one
write. Killed at any step, on either side, the same command with the same data directory goes on: the same node with
the same key takes no second use of a token. Nobody comes in by any other way; gossip admits nobody.

**Believing** (`judging`, `credentials`). A certificate is good when a CA of the state signed it, its time is now and
the state lists it. `keepers` has the mesh look at all connections anew whenever that list changes. `judging` says what
a node may believe that has been away.

**Keeping** (`keepers`, `renewal`, `duties`). Each node renews its certificate at two thirds of its life: it signs
itself, or asks a member over the mesh (`service`). The leader wraps the data key for new members. `orca ca rotate` puts
a new CA beside the old one, with a cross certificate; it signs after two seconds, nodes renew, and when the last
one has, the old one goes. After a node was removed gossip gets a new key, which the others fetch over the mesh,
where the removed one cannot follow.

**Removed.** The state marks the data keys that a removed member could open, and the leader replaces those at once
(`node.secrets.rotation`). The removed node hears from its peers that it is none of the cluster: it says so, keeps
what it runs and takes no commands (`removal`). What is not covered: it has seen values of secrets and the CA's key.
Certificates that it makes with that are on nobody's list, but what it knew it knows: `orca nodes rm` says so.
"""
