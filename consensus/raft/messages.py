"""What the nodes of a group say to each other, and its bytes.

Every message carries its sender's term and epoch; the machine looks at both before
anything else. An unknown tag, a missing field or an entry out of place is a
PeerProtocolError for whoever decodes, and never reaches the machine.
"""

from typing import Annotated, Final, TypeAlias

import msgspec

from consensus.raft.requests import ProposalId, ReadId, RejectReason
from consensus.storage import Entry, EntryKind, SnapshotMeta, decode_membership
from orca.errors import PeerProtocolError
from orca.model.ids import LogIndex, Term

MESSAGE_BYTES_MAX: Final = 8 * 2**20
"""No message is larger: an append of the largest entry (`RaftConfig.payload_bytes_max`), and room to spare."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Term = Annotated[Term, msgspec.Meta(ge=0, lt=2**56)]
_Index = Annotated[LogIndex, msgspec.Meta(ge=0, le=2**62)]


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What all have in common: the term that the sender is in, and the epoch of its log."""

    term: _Term
    epoch: _Count


class PreVote(_Message, frozen=True, kw_only=True):
    """Would you vote for me in the term after mine? Asked before a term is used up (§9.6).

    `term` is the term that the sender is in, which is not the one it would campaign in.
    """

    last_index: _Index
    last_term: _Term


class PreVoteReply(_Message, frozen=True, kw_only=True):
    """The answer to a PreVote that was sent in `for_term`; promises nothing."""

    for_term: _Term
    is_granted: bool


class RequestVote(_Message, frozen=True, kw_only=True):
    """Vote for me in `term` (§3.4).

    `is_transfer`: the leader itself told the sender to campaign, so nobody need protect it (§4.2.3).
    """

    last_index: _Index
    last_term: _Term
    is_transfer: bool = False


class VoteReply(_Message, frozen=True, kw_only=True):
    """The answer to a RequestVote of this term; a granted vote is on disk."""

    is_granted: bool


class AppendEntries(_Message, frozen=True, kw_only=True):
    """Entries that follow entry `prev_index` of `prev_term` (§3.5)."""

    prev_index: _Index
    prev_term: _Term
    entries: tuple[Entry, ...]
    commit_index: _Index


class AppendReply(_Message, frozen=True, kw_only=True):
    """Accepted: the log up to `index` is on disk and equals the leader's.

    Otherwise `index` is the `prev_index` that did not fit, and (`hint_index`, `hint_term`) the
    newest entry of the follower that may be common: a leader skips a whole term at a time (§3.5).
    """

    is_accepted: bool
    index: _Index
    hint_index: _Index = LogIndex(0)
    hint_term: _Term = Term(0)


class Heartbeat(_Message, frozen=True, kw_only=True):
    """I lead this term, and what you hold is committed up to `commit_index`.

    `round` counts up; 0 wants no answer.
    """

    commit_index: _Index
    round: _Count = 0


class HeartbeatReply(_Message, frozen=True, kw_only=True):
    """At the time of heartbeat `round` the sender followed the leader of this term (§6.4)."""

    round: _Count


class InstallSnapshot(_Message, frozen=True, kw_only=True):
    """Bytes of a snapshot from `offset` on (§5.3); `checksum` is the CRC-32 of all `size` bytes."""

    meta: SnapshotMeta
    size: _Count
    checksum: _Count
    offset: _Count
    data: bytes

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after these bytes."""
        return self.offset + len(self.data) == self.size


class SnapshotReply(_Message, frozen=True, kw_only=True):
    """Of the snapshot up to `last_index` the sender wants what begins at `next_offset`."""

    last_index: _Index
    next_offset: _Count


class TimeoutNow(_Message, frozen=True, kw_only=True):
    """Campaign at once: leadership is yours to take (§3.10)."""


class ForwardedProposal(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One proposal on its way to the leader."""

    proposal_id: ProposalId
    payload: bytes


class ForwardProposals(_Message, frozen=True, kw_only=True):
    """Proposals for the leader of this term, who passes them on to nobody.

    `session` tells one life of the sender from the next, `sequence` one message of a session from
    the next: what arrives twice is taken once.
    """

    session: _Count
    sequence: _Count
    proposals: tuple[ForwardedProposal, ...]


class ForwardAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What became of one forwarded proposal: it is entry `index` of the message's term, or it was rejected."""

    proposal_id: ProposalId
    index: _Index = LogIndex(0)
    reason: RejectReason | None = None
    detail: str = ""


class ForwardReply(_Message, frozen=True, kw_only=True):
    """The answers to a ForwardProposals of `session`."""

    session: _Count
    answers: tuple[ForwardAnswer, ...]


class ForwardRead(_Message, frozen=True, kw_only=True):
    """How far must a state have come to answer these reads linearizably? (§6.4)."""

    session: _Count
    read_ids: tuple[ReadId, ...]


class ForwardReadReply(_Message, frozen=True, kw_only=True):
    """The reads of `session` may be answered from a state that has applied `index`; None for a refusal."""

    session: _Count
    read_ids: tuple[ReadId, ...]
    index: _Index | None = None


class EpochNotice(_Message, frozen=True, kw_only=True):
    """The answer to anything of a lower epoch: the group was started anew since."""


Message: TypeAlias = (
    PreVote
    | PreVoteReply
    | RequestVote
    | VoteReply
    | AppendEntries
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | InstallSnapshot
    | SnapshotReply
    | TimeoutNow
    | ForwardProposals
    | ForwardReply
    | ForwardRead
    | ForwardReadReply
    | EpochNotice
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """Its payload in a frame, at most `MESSAGE_BYTES_MAX` bytes."""
    encoded = _encoder.encode(message)
    assert len(encoded) <= MESSAGE_BYTES_MAX, f"a message of {len(encoded)} bytes: {type(message).__name__}"
    return encoded


def decode_message(payload: bytes) -> Message:
    """What `payload` says; raises PeerProtocolError for anything that no correct peer sends."""
    if len(payload) > MESSAGE_BYTES_MAX:
        raise PeerProtocolError(f"a raft message of {len(payload)} bytes, at most {MESSAGE_BYTES_MAX} are allowed")
    try:
        message = _decoder.decode(payload)
        if isinstance(message, AppendEntries):
            _check_entries(message)
        elif isinstance(message, InstallSnapshot):
            _check_piece(message)
    except (msgspec.MsgspecError, ValueError) as error:
        raise PeerProtocolError(f"a peer sent a raft message that makes no sense: {error}") from error
    return message


def _check_entries(message: AppendEntries) -> None:
    """Entries follow each other and `prev_index`, in terms that do not fall and that the sender has seen."""
    index, term = message.prev_index, message.prev_term
    for entry in message.entries:
        index = LogIndex(index + 1)
        if entry.index != index or entry.term < term:
            raise ValueError(f"entry {entry.index} of term {entry.term} stands at {index} after one of term {term}")
        term = entry.term
        if entry.kind is EntryKind.MEMBERSHIP:
            decode_membership(entry.payload)
    if term > message.term:
        raise ValueError(f"an entry of term {term} in a message of term {message.term}")


def _check_piece(message: InstallSnapshot) -> None:
    if message.offset + len(message.data) > message.size:
        raise ValueError(f"{len(message.data)} bytes at {message.offset} of a snapshot of {message.size}")
    if message.meta.last_index < 1 or not 0 <= message.meta.last_term <= message.term:
        raise ValueError(f"a snapshot up to entry {message.meta.last_index} of term {message.meta.last_term}")
