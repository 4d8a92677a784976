"""Raft (Ongaro, *Consensus: Bridging Theory and Practice*, 2014) as a pure machine.

What is here: the log, terms, the election, commit, reads and compaction of a group with
**one voter**, behind the interface that a group of several needs too. Replication,
votes and snapshots between voters are not here, and the machine refuses to be made
with more than one voter rather than to behave as if it knew how.

Roles. A *follower* knows no leader. Its first Tick makes it *candidate*: it moves
to the next term and votes for itself. One vote of one is a quorum, so in the same
step it is *leader* and appends a no-op entry of its term.

Rules.

- A term is never used twice: the new term and the vote are saved before anything of
  that term is seen outside (§3.8). A restart therefore begins a new term.
- A leader commits entries of earlier terms only together with one of its own, which is
  why the no-op comes first (§3.6.2); it also tells where reads may begin (§6.4).
- Entries are applied once an incarnation, in order, after they were saved. A proposal
  is *accepted* when it has an index; what became of it is what applying that entry gave.
- A proposal that is *rejected* did not happen and never will.
- The log after the last snapshot is kept in memory whole. Whoever owns the replicated
  state decides when to take a snapshot (`tail_entries`, `tail_bytes`).

Effects and the disk. The saves of a step come first in its list and make one transaction
(`collect_write`); the rest may be performed when that transaction is on disk, in list
order, and before the next step. There is no "save done" event: the order says it. When the
transaction could not be written, the driver drops the rest of the list and steps
`SaveFailed`: the machine goes back to where it was before that step and rejects the
step's proposals. A leader stays leader through that, since nothing it said was wrong;
an election that could not be saved is tried again after a randomised pause.
"""

from consensus.raft.config import RaftConfig
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
    SnapshotTaken,
    Tick,
    TransferRequested,
)
from consensus.raft.machine import RaftMachine, Role
from consensus.raft.messages import MESSAGE_BYTES_MAX, Message, decode_message, encode_message
from consensus.raft.requests import ProposalId, ReadId, RejectReason

__all__ = [
    "MESSAGE_BYTES_MAX",
    "Accepted",
    "AddLearner",
    "Apply",
    "Effect",
    "Event",
    "LeaderChanged",
    "MembershipChange",
    "MembershipChanged",
    "MembershipProposed",
    "Message",
    "MessageReceived",
    "MessagesReceived",
    "Noted",
    "Outranked",
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
    "SnapshotTaken",
    "Tick",
    "TransferRequested",
    "collect_write",
    "decode_message",
    "encode_message",
]
