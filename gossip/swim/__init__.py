"""Who answers: SWIM with Lifeguard, exactly as HashiCorp's memberlist speaks it (WIRE.md §4, §5).

Sources: Das, Gupta, Motivala, *SWIM* (DSN 2002); Dadgar, Phillips, Currey, *Lifeguard*
(arXiv 1707.00788); memberlist where they leave something open.

Belief. Each member has a state, *alive*, *suspect*, *dead* or *left*, and an incarnation
that only it raises. Claims travel: `Alive` needs a higher incarnation than the one known,
`Suspect` and `Dead` at least the same. So at one incarnation alive < suspect < dead, and
a member that hears an accusation refutes it with the next incarnation. `Dead` that a
member says of itself means that it left.

              Alive, higher inc.             Suspect                       timer, Dead
    (unknown) -----------------> ALIVE -------------------> SUSPECT -------------------> DEAD
                                   ^   Alive, higher inc.      |                           |
                                   `---------------------------+---------------------------'
                                   Dead by itself, from any state: LEFT

Probing. Members are probed in turn from a shuffled list, one at a time. No ack within the
probe timeout: `indirect_checks` others are asked to ping on our behalf, and a stream is tried
in case only datagrams are blocked. No word of life until the end of the probe: suspicion.

Lifeguard. *Awareness*: a member that misses nacks, has to refute, or whose own loop stalls
takes itself to be slow, and gives its probes more time. *Suspicion*: the first accuser alone
waits long; each independent confirmation shortens the wait, logarithmically, to the
minimum. *Buddy*: whoever pings a suspect tells it so, that it may refute at once.

Dissemination. Claims ride on every packet, each a limited number of times, the least sent
first (`gossip.transmit_queue`). What is left goes to a few random members, among them the
freshly dead, who may want to refute: at once after a silence, then once a gossip interval,
and nothing wakes a member that has nothing to say. Every so often all is exchanged with one
member over a stream (push/pull), which also is how one joins. There, what a third
party holds for dead is only suspected.

Upwards. A `Delegate` gives the tags, the payload of acks, broadcasts and state of the
layer above, and hears of members and messages. Calls return at once and never call back.

Beyond memberlist: two more push/pulls with random members after a join, because then a
burst of joins settles in a second; a loop that stalled accuses nobody before it has read
what waited; a claim that fits no packet is refused instead of queued for ever; in every
profile a claim is sent at least four times log n, since at two an epidemic sometimes dies;
`coordinate_every` leaves coordinates out of most acks, which pays for probing twice as often.
Everything is bounded: members, suspicions' accusers, relays, exchanges.

Left out: memberlist's per-member protocol versions below 2, and its user-level
acknowledged messages, which Serf does not use.
"""

from gossip.swim.config import LAN, LOCAL, ORCA, PROFILES, WAN, SwimConfig
from gossip.swim.delegate import Delegate
from gossip.swim.effects import (
    ChangeKind,
    JoinEnded,
    LeaveEnded,
    MemberChanged,
    OpenStream,
    ReplyStream,
    SendPacket,
    SwimEffect,
)
from gossip.swim.events import (
    JoinRequested,
    LeaveRequested,
    MetaChanged,
    PacketReceived,
    SwimEvent,
    UserSent,
)
from gossip.swim.machine import Swim
from gossip.swim.members import MemberState, MemberView

__all__ = [
    "LAN",
    "LOCAL",
    "ORCA",
    "PROFILES",
    "WAN",
    "ChangeKind",
    "Delegate",
    "JoinEnded",
    "JoinRequested",
    "LeaveEnded",
    "LeaveRequested",
    "MemberChanged",
    "MemberState",
    "MemberView",
    "MetaChanged",
    "OpenStream",
    "PacketReceived",
    "ReplyStream",
    "SendPacket",
    "Swim",
    "SwimConfig",
    "SwimEffect",
    "SwimEvent",
    "UserSent",
]
