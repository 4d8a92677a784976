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

**Brought certificates** (`brought`, `pairs`). A service may name secrets that hold a certificate of its own and the
key. They are checked before a deploy where they can be opened, and by every node when they change: the key has to fit,
the names have to cover the service's domains, the time has to be now. What cannot be shown is an event, and so is an
end that is near; the one before it is shown on while it is good, and then the cluster's own CA stands in. Its key comes
to every node, since every node serves every domain: whoever does not want that on workers has TLS ended elsewhere.

**Time.** A leaf is good for a week, is shown within a second of its domain's deploy, and is renewed at two thirds of
its life, each at a moment of its own (`node.trust.renewal`). What cannot be signed is tried again, with growing
pauses, and what is held meanwhile is shown on: one domain never waits for another. A domain that goes takes its leaf
along. The table is swapped whole, under connections that go on.

**Rotation.** `orca ca rotate --ingress` puts another CA in the place of the present one, which every node shows at
once; whoever trusts the old one has to be given the new one. It is what to do when a removed member, which knew the
key, may be in wrong hands.

Left out: ACME, and revocation: a leaf dies within days.
"""

from node.certificates.parts import Certificates

__all__ = ["Certificates"]
