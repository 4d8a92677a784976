"""What each node says about itself, known to all: theory of operation.

A *fact* is a key and a value that one node, its *writer*, says: the health of an
allocation, free memory, the log index it has applied. Nobody else writes it, so there is
nothing to agree on, only to spread: the later version is right. The exchange is Scuttlebutt
reconciliation (van Renesse, Dumitriu, Gough, Thomas: *Efficient Reconciliation and Flow Control
for Anti-Entropy Protocols*, 2008) with what chitchat taught about forgetting removals.

Versions. A writer numbers everything it says in one sequence, so "all of W up to 17" describes
what a node knows of W in one number. A life of a writer has an *incarnation*: a later one
overrides everything of the earlier, whatever its versions, and it begins with a version 1 that
says nothing, so that even a silent new life ends the old one. A writer that hears of a later
life of its own than it remembers raises its incarnation above that and says everything again.

Spreading, quick and quiet:

- *Push.* What is new goes in deltas to two random peers each quarter of a second, as often as SWIM
  repeats a claim, and is passed on by whoever learned it so. A delta names the version it
  begins at; a receiver that has not got that far asks.
- *Summary.* Each node sends one random peer a hash of all it knows, in buckets: a second after something
  changed or was found to differ, then after twice as long each time, up to eight seconds (Trickle, Levis
  and others, RFC 6206). An idle cluster exchanges nothing else. Who missed news does not know it, but
  those who have it do, and they ask around soonest while it is new. Where the hashes differ, a
  digest of those buckets comes back; the first node sends what is missing and asks for what it
  lacks: three messages, as in the paper.
- Deltas are cut to fit a packet, from the lowest version on, so that every piece leaves a state
  that can be described. What takes more than a few packets goes over a stream.

Removals are items without a value, forgotten after ten minutes. A node that was away longer
gets a *reset* (`writer` has the rules and why they are safe).

Owners that go. Facts with a time to live are hidden that long after their owner failed or left,
and shown again when it is back. All others are forgotten after an hour. Facts are only taken
in about writers that are members at present, so that nobody who forgets later can bring back
what others forgot. Summaries speak of present writers only.

On the wire a frame is a memberlist user message that begins with 0xF0 (`frames`). A Serf agent
would log a warning for it, so frames go only to members that carry the tag `orca`, and are
taken only from them. A member that is a Serf agent beside a node carries the node's id in the tag
`id`, and frames for that node go by its mesh. A frame of another schema is dropped and
counted; within a schema fields are only added at the end.

Bounds. A key has 128 bytes, a value 64 KiB, a writer 1,024 facts and 256 KiB, all together 64 MiB;
frames of a peer and facts of a writer have a pace. A delta that would break a bound is refused
whole and its writer left alone for a minute. When the store is full, those who have been
gone for the longest go first. Answers go to the address that membership knows, never to where a
packet says it comes from, and are no longer than a peer may get at that moment.

The kill switch. While paused a node neither sends nor takes in and keeps what it has; its own facts
may still change and are told on resuming. A bad fact stops spreading when people act, not when code does.

Trust. Members share a key and are not told apart by it: a hostile member can say something in
another's name until that one hears of it and raises its incarnation. Decisions are made from
intent (Raft); facts only inform them.
"""

from gossip.facts.config import FactsConfig
from gossip.facts.effects import Fact, FactLearned, FactsEffect, IncarnationRaised, SendBulk, SendFacts
from gossip.facts.events import (
    FactRemoved,
    FactsEvent,
    FactWritten,
    FrameReceived,
    Paused,
    PeerAppeared,
    PeerDeparted,
    Resumed,
)
from gossip.facts.frames import FRAME_TYPE, frame_sender
from gossip.facts.machine import Facts

__all__ = [
    "FRAME_TYPE",
    "Fact",
    "FactLearned",
    "FactRemoved",
    "FactWritten",
    "Facts",
    "FactsConfig",
    "FactsEffect",
    "FactsEvent",
    "FrameReceived",
    "IncarnationRaised",
    "Paused",
    "PeerAppeared",
    "PeerDeparted",
    "Resumed",
    "SendBulk",
    "SendFacts",
    "frame_sender",
]
