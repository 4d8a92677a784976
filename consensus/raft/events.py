"""What happens to the machine."""

from typing import TypeAlias

import msgspec

from consensus.raft.messages import Message
from consensus.raft.requests import ProposalId, ReadId
from consensus.storage import Entry, Snapshot
from orca.model.ids import LogIndex, NodeId, Term


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """The time that `deadline()` named has come; an early or late one does no harm."""


class MessageReceived(msgspec.Struct, frozen=True, kw_only=True):
    """`sender`, whom the transport knows, sent `message`."""

    sender: NodeId
    message: Message


class MessagesReceived(msgspec.Struct, frozen=True, kw_only=True):
    """Several messages at once, in order of arrival: one write serves them all."""

    messages: tuple[MessageReceived, ...]


class Proposed(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wants `payload` (not empty) in the log."""

    proposal_id: ProposalId
    payload: bytes


class ProposedMany(msgspec.Struct, frozen=True, kw_only=True):
    """Several proposals at once: they are saved in one write, in this order."""

    proposals: tuple[Proposed, ...]


class AddLearner(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`node` gets the log, and no vote (§4.2.1)."""

    node: NodeId


class Promote(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The learner `node`, which has caught up, becomes a voter."""

    node: NodeId


class Remove(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`node`, voter or learner, is a member no more."""

    node: NodeId


MembershipChange: TypeAlias = AddLearner | Promote | Remove


class MembershipProposed(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wants the group changed, by one member (§4.1); only a leader takes it.

    Accepted like any proposal; done when the entry is applied.
    """

    proposal_id: ProposalId
    change: MembershipChange


class TransferRequested(msgspec.Struct, frozen=True, kw_only=True):
    """The leader shall hand over to the voter `to`; None for whoever has most of the log (§3.10)."""

    to: NodeId | None = None


class PeerUnreachable(msgspec.Struct, frozen=True, kw_only=True):
    """Messages to `node` were dropped; a hint, which may be wrong."""

    node: NodeId


class ReadRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wants to read what was committed up to now."""

    read_id: ReadId


class SnapshotTaken(msgspec.Struct, frozen=True, kw_only=True):
    """`payload` is the replicated state after entry `upto`, which was applied.

    The log up to there is no longer needed. `upto` lies after the last snapshot.
    """

    upto: LogIndex
    payload: bytes


class EntriesLearned(msgspec.Struct, frozen=True, kw_only=True):
    """Committed entries of `epoch`, from whoever has them; `leader` leads `term`, as far as that one knows."""

    epoch: int
    term: Term
    entries: tuple[Entry, ...]
    leader: NodeId | None = None


class SnapshotLearned(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of the committed state of `epoch`, from whoever has it."""

    epoch: int
    snapshot: Snapshot


class SaveFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The saves of the last step did not reach the disk, none of them.

    Only for a store that said so (`StoreFullError`): after any other error the process
    cannot know what is on disk, and must load it again.
    """

    detail: str


Event: TypeAlias = (
    Tick
    | MessageReceived
    | MessagesReceived
    | Proposed
    | ProposedMany
    | MembershipProposed
    | TransferRequested
    | PeerUnreachable
    | ReadRequested
    | SnapshotTaken
    | EntriesLearned
    | SnapshotLearned
    | SaveFailed
)
