"""Raft (Ongaro, *Consensus: Bridging Theory and Practice*, 2014) as a pure machine.

`step(event, now) -> effects`: no clock, no chance, no IO of its own. Payloads are opaque. Sections in
comments are those of the thesis.

Roles. A *follower* takes entries from a leader. A voter that hears of none for a random while
becomes *pre-candidate* and asks whether an election could succeed (§9.6); with a quorum of yes it
is *candidate*, in a new term, and asks for votes (§3.4); with a quorum of votes it *leads*.
An only voter takes all these steps in its first Tick. A learner, and a node with an empty log
that belongs to no group yet, only follow.

Rules.

- A term is never used twice: the new term and the vote are saved before anything of
  that term is seen outside (§3.8). A restart therefore begins a new term.
- A leader that works is not deposed: who heard it within an election timeout ignores
  candidates (§4.2.3). A leader that no quorum answers steps down (§6.2).
- A leader commits entries of earlier terms only together with one of its own, which is
  why a no-op comes first (§3.6.2); it also tells where reads may begin (§6.4).
- A follower forgets an entry only when its leader has another one in that place (§3.5), and never a committed
  one: it stops the process instead.
- Entries are applied once an incarnation, in order, after they were saved. A proposal
  is *accepted* when it has an index; what became of it is what applying that entry gave.
- A proposal that is *rejected* did not happen and never will. One that is *lost* may have happened.
- A follower passes proposals and reads on to the leader it knows, once; the leader takes what comes
  twice once, within its term, and passes nothing on.
- A read is answered from the commit index of the time when a round of heartbeats began that a quorum
  answered, and that began after the read came (§6.4). No clock is trusted for it.
- The group changes by one member at a time (§4.1), when the last change and an entry of the leader's term
  are committed (the correction of 2015), and counts from the moment it is in the log. Learners vote when they
  have caught up (§4.2.1). A leader that removed itself steps down once that is committed (§4.2.2).
- Leadership is handed over by bringing one voter up to date, taking nothing new meanwhile, and telling it to
  campaign (§3.10).
- A peer whose next entry is no longer in memory gets the snapshot, in pieces, each asked for by the one before;
  a break is resumed where it was, another snapshot begins anew (§5.3).
- Every message carries the epoch: how often the group was started anew by hand. A lower one is answered with the
  higher; who meets a higher one is *outranked* and does nothing any more.

A node without a vote learns committed entries and snapshots from anybody who has them (`learning`).

Memory is bounded: the log after the last snapshot (whoever owns the replicated state decides when to take
one, from `tail_entries` and `tail_bytes`), some entries before it, what a leader may take without a quorum,
appends in flight to each peer, one snapshot on its way to or from it, and tables of waiting requests.

Effects and the disk. They are performed in list order. Messages that need not wait for this node's disk stand
before the saves: a leader's appends leave while it writes (§10.2.1), and its own entries count as
stored only after that. The saves of a step stand together and are one transaction (`collect_write`);
the rest may be performed when that is on disk, and before the next step. There is no "save
done" event: the order says it. When the transaction could not be written, the driver drops the rest
of the list and steps `SaveFailed`: the machine goes back to where it was before that step and gives the
answers that are still true. A leader with peers steps down, since they may hold what it forgot; an
only voter stays leader, and an election that could not be saved is tried again after a randomised pause.

A driver hands in messages that wait before a Tick that is due: after a pause they may say that a leader lives.
What queues during a write it hands in at once (`ProposedMany`, `MessagesReceived`), so that one
sync serves all of it.

Left out: leases for reads (§6.4.1: they trust clocks), joint consensus (§4.3: single changes suffice), and
batching over time (one write after the other is the batch).
"""

from consensus.raft.config import RaftConfig
from consensus.raft.core import Role
from consensus.raft.effects import (
    Accepted,
    Apply,
    Effect,
    LeaderChanged,
    MembershipChanged,
    Noted,
    Outranked,
    ProposalLost,
    ProposalRejected,
    ReadReady,
    ReadRejected,
    RestoreSnapshot,
    Save,
    SaveEntries,
    SaveHardState,
    SaveSnapshot,
    SendMessage,
    collect_write,
)
from consensus.raft.events import (
    AddLearner,
    EntriesLearned,
    Event,
    MembershipChange,
    MembershipProposed,
    MessageReceived,
    MessagesReceived,
    PeerUnreachable,
    Promote,
    Proposed,
    ProposedMany,
    ReadRequested,
    Remove,
    SaveFailed,
    SnapshotLearned,
    SnapshotTaken,
    Tick,
    TransferRequested,
)
from consensus.raft.machine import RaftMachine
from consensus.raft.messages import MESSAGE_BYTES_MAX, Message, decode_message, encode_message
from consensus.raft.progress import PeerProgress, PeerState
from consensus.raft.recovery import LogPosition, blank_write, epoch_number, next_epoch, recovery_write
from consensus.raft.requests import ProposalId, ReadId, RejectReason

__all__ = [
    "MESSAGE_BYTES_MAX",
    "Accepted",
    "AddLearner",
    "Apply",
    "Effect",
    "EntriesLearned",
    "Event",
    "LeaderChanged",
    "LogPosition",
    "MembershipChange",
    "MembershipChanged",
    "MembershipProposed",
    "Message",
    "MessageReceived",
    "MessagesReceived",
    "Noted",
    "Outranked",
    "PeerProgress",
    "PeerState",
    "PeerUnreachable",
    "Promote",
    "ProposalId",
    "ProposalLost",
    "ProposalRejected",
    "Proposed",
    "ProposedMany",
    "RaftConfig",
    "RaftMachine",
    "ReadId",
    "ReadReady",
    "ReadRejected",
    "ReadRequested",
    "RejectReason",
    "Remove",
    "RestoreSnapshot",
    "Role",
    "Save",
    "SaveEntries",
    "SaveFailed",
    "SaveHardState",
    "SaveSnapshot",
    "SendMessage",
    "SnapshotLearned",
    "SnapshotTaken",
    "Tick",
    "TransferRequested",
    "blank_write",
    "collect_write",
    "decode_message",
    "encode_message",
    "epoch_number",
    "next_epoch",
    "recovery_write",
]
