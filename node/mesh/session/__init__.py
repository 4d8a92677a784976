"""One connection between two nodes as a pure machine: frames in, streams out, and the other way round.

Both sides greet (HELLO: the versions that each speaks, which life of its process it is, and what
the other may do here); before both have greeted nothing else is said. Then either opens streams
(OPEN: a purpose, a subject that only the handler reads, a priority), the side that dialled odd
ones and the other even ones. A stream is two directions of bytes (DATA), each ended by END; RESET
ends both at once and says why. A stream is gone when both directions ended and all was read, or
when it was reset. What still comes for it then is dropped and counted; what comes for a stream
that never was ends the session.

**Credit.** A side sends on a stream only what the other allowed: first as much as HELLO says, then
as much as WINDOW adds. A reader adds what was *taken*, not what came, once it is a quarter of the
window, so a slow reader slows its own stream only. A second window spans all streams but the
urgent ones: it is the memory that a peer can fill while nobody reads. Bytes that nobody will read
(a stream that was reset) are given back to it at once, else it would close bit by bit.

**Whose turn.** What is to be sent is asked for (`Writable`) when the wire takes something, and
only then decided: control frames, then urgent streams (Raft), then interactive ones, then bulk,
round about among equals, no frame longer than 64 KiB. So what is urgent waits for one piece and
for what the kernel holds. After a run of one kind a piece of the next goes, so nobody starves.

**Limits.** All that a peer can make this side keep is bounded: streams, new streams a second, bytes
not read, bytes of answers not taken, half a control frame. Who breaks a rule is told (GOAWAY) and
the session ends; nothing that a peer sends raises an exception. Too many streams are refused one
by one, because an honest peer may be a little too quick; a thousand refusals in a row end it.

**Time.** A peer that was not heard for five seconds is pinged, and given up when it says nothing for
ten more. `deadline` says when `Tick` is wanted.

**The end.** GOAWAY with the flag FINAL: closed now. Without: no more streams begin; who hears it says
the same, and when both have said it and no stream is left, the session closes with nothing lost.
That is how the worse of two connections goes that both sides dialled at once.

**Versions.** Both speak the newest version that both know; new fields have defaults; a frame whose kind
is 128 or more may be left out by who does not know it. A priority that is not known is bulk.

Left out: renegotiation of windows, priorities that change, padding. Nobody needs them here.
"""

from node.mesh.session.effects import (
    Accepted,
    Arrived,
    Broken,
    Closed,
    Draining,
    Effect,
    Ended,
    Established,
    Opened,
    OpenRefused,
    RoomMade,
    RoundTrip,
    Stopped,
    Write,
)
from node.mesh.session.events import (
    Abort,
    Consumed,
    Drain,
    End,
    Event,
    Leave,
    Open,
    Ping,
    Received,
    Release,
    Send,
    Tick,
    Writable,
)
from node.mesh.session.framing import Priority, StreamId
from node.mesh.session.limits import Counters, Limits
from node.mesh.session.machine import Session

__all__ = [
    "Abort",
    "Accepted",
    "Arrived",
    "Broken",
    "Closed",
    "Consumed",
    "Counters",
    "Drain",
    "Draining",
    "Effect",
    "End",
    "Ended",
    "Established",
    "Event",
    "Leave",
    "Limits",
    "Open",
    "OpenRefused",
    "Opened",
    "Ping",
    "Priority",
    "Received",
    "Release",
    "RoomMade",
    "RoundTrip",
    "Send",
    "Session",
    "Stopped",
    "StreamId",
    "Tick",
    "Writable",
    "Write",
]
