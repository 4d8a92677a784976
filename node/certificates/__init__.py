"""Which certificates this node's ingress shows, and where they come from.

**The CA of served names** is not that of the nodes: people trust it in browsers and on command lines, and nobody gets
into the cluster by it. The leader makes it once. Its private key lies in the state, sealed under the cluster's data
key like that of the other CA, so every member can sign, and the log tells its reader nothing. `orca ca show --ingress`
prints its certificate.

**Leaves.** Each node makes a key of its own when it starts, keeps it in memory and nowhere else, and has it certified
for every domain that a service names, and for its own name and addresses (for clients that name no server). A member
signs itself, without asking anybody and without a quorum. A worker asks a member over the mesh (`sharing`), which
signs for domains of its state and for the asking node's own names, and for nothing else. A node's own names are
few: a name without dots, addresses that are not of the Internet. Otherwise whoever names a node could have any name
certified.

**Time.** A leaf is good for a week, is shown within a second of its domain's deploy, and is renewed at two thirds of
its life, each at a moment of its own (`node.trust.renewal`). What cannot be signed is tried again, with growing
pauses, and what is held meanwhile is shown on: one domain never waits for another. A domain that goes takes its leaf
along. The table is swapped whole, under connections that go on.

Left out: ACME, revocation (a leaf dies within days), a change of the CA of served names. What a removed member
knew of that CA's key it knows.
"""

from node.certificates.parts import Certificates

__all__ = ["Certificates"]
