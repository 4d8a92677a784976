"""What Serf adds to SWIM: purpose, order and conversation. Theory of operation.

SWIM (`gossip.swim`) knows who answers. This layer knows who *meant* to go, tells everybody
small things in an agreed order, asks everybody and gathers answers, and estimates distances.
On the wire it is HashiCorp Serf's, message for message (WIRE.md §6), so a `serf agent` is a
member like any other. It is a pure machine and SWIM's delegate: SWIM calls it, it never
calls SWIM; what it wants is an effect.

Time. Three Lamport clocks, for members, events and queries (`clock`). Whoever hears a time
is later than it. A time absurdly far ahead is refused, so that nobody can use up the clock.

Status. A member is *alive*, *leaving* (it said that it goes), *left* or *failed*. Every
status stands on the time of an intent; a newer intent wins, an older one is ignored and not
passed on, which is what ends its travel. When SWIM loses a member, leaving becomes left and
alive becomes failed: only the intent makes the difference. An intent for an unknown member
waits five minutes for it. A leave intent about us that we did not make, from an earlier life
for instance, is answered with a newer join intent. In a push/pull the departed come first.

        join intent, SWIM joined              leave intent
    .--------------------------> ALIVE ----------------------> LEAVING
    |                              |  SWIM: dead                  |  SWIM: dead or left
    |                              v        leave intent          v
    `--------------------------- FAILED --------------------->  LEFT

One departure from Serf: a member whose farewell SWIM heard has left, even if its intent was
lost on the way. Serf's agents hear the same from our next push/pull with them.

Leaving. Intent, spread until its transmissions are used up or 5 s are over; then SWIM's own
farewell (`LeaveSwim`, answered by `SwimLeft`); then 1 s of answering probes; then `Left`.

Events and queries (`user_events`, `queries`). Rings of 512 times tell what was seen. A joiner
may refuse events from before it came. What is new is delivered once and passed on as the
bytes that came. A query is answered at most once, straight to the asker, before its deadline,
and through others as well when the asker wants it. Filters are regular expressions of
strangers: `patterns` matches them in linear time, and what it does not understand does
not match and is counted. Names that begin with `_serf_` are between agents (`internal`):
ping, the owner of a name, and the keyring, which `serf keys` can therefore change on our nodes.
`keys.Rotation` replaces a key in the order that cuts nobody off.

Peers that are lost (`redial`). Serf gives up on them, memberlist sooner still; here they are
dialled for ever, so that any partition heals within a minute of its repair. `PersistPeers`
carries peers and clocks over a restart: the node then looks for its old peers by itself, and
does not deliver old events again. Changes gather for a second, so a crash may repeat the
events of its last second: delivery is at least once across a crash, exactly once otherwise.

Distance (`coordinates`). Vivaldi, carried in acks.

Nothing grows without limit: queues of 4,096 broadcasts, rings bounded in entries and bytes,
tables of members, intents, queries and lost peers with a named maximum each. What cannot be
read or believed is counted in `drops`, by cause.

Left out: encrypted tags, protocol versions before memberlist 1 and Serf delegate 3 (bare role
strings as tags are the codec's to read), and Serf's snapshot file, whose role LMDB has.
"""

from gossip.serf.config import SerfConfig
from gossip.serf.effects import (
    ChangeMeta,
    KeyCommandEnded,
    KeyOperation,
    KeyReport,
    KeyringChanged,
    LeaveSwim,
    Left,
    NameLost,
    PersistPeers,
    QueryAcked,
    QueryAnswer,
    QueryEnded,
    QueryKey,
    QueryReceived,
    QueryStarted,
    Rejoin,
    RotationEnded,
    RotationProgressed,
    RotationStep,
    SavedPeer,
    SendUser,
    SerfEffect,
    StatusChanged,
    UserEventReceived,
)
from gossip.serf.events import (
    EventRequested,
    ForceLeaveRequested,
    JoinEnded,
    JoinStarted,
    KeyCommandRequested,
    LeaveRequested,
    QueryAnswered,
    QueryClosed,
    QueryRequested,
    RotationRequested,
    SerfEvent,
    SwimLeft,
    TagsChanged,
)
from gossip.serf.members import MemberStatus, SerfMember, StatusChange
from gossip.serf.queries import Identity
from gossip.serf.serf import Serf, Stage

__all__ = [
    "ChangeMeta",
    "EventRequested",
    "ForceLeaveRequested",
    "Identity",
    "JoinEnded",
    "JoinStarted",
    "KeyCommandEnded",
    "KeyCommandRequested",
    "KeyOperation",
    "KeyReport",
    "KeyringChanged",
    "LeaveRequested",
    "LeaveSwim",
    "Left",
    "MemberStatus",
    "NameLost",
    "PersistPeers",
    "QueryAcked",
    "QueryAnswer",
    "QueryAnswered",
    "QueryClosed",
    "QueryEnded",
    "QueryKey",
    "QueryReceived",
    "QueryRequested",
    "QueryStarted",
    "Rejoin",
    "RotationEnded",
    "RotationProgressed",
    "RotationRequested",
    "RotationStep",
    "SavedPeer",
    "SendUser",
    "Serf",
    "SerfConfig",
    "SerfEffect",
    "SerfEvent",
    "SerfMember",
    "Stage",
    "StatusChange",
    "StatusChanged",
    "SwimLeft",
    "TagsChanged",
    "UserEventReceived",
]
