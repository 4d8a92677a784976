import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.raft.messages import (
    MESSAGE_BYTES_MAX,
    AppendEntries,
    AppendReply,
    EpochNotice,
    ForwardAnswer,
    ForwardedProposal,
    ForwardProposals,
    ForwardRead,
    ForwardReadReply,
    ForwardReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    PreVote,
    PreVoteReply,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    decode_message,
    encode_message,
)
from consensus.raft.requests import ProposalId, ReadId, RejectReason
from consensus.storage import Entry, EntryKind, Membership, SnapshotMeta, encode_membership
from orca.errors import PeerProtocolError
from orca.model.ids import LogIndex, NodeId, Term
from tests.contracts.log_store import entries_from

T = Term(3)
I = LogIndex(5)  # noqa: E741 - an index
GROUP = Membership(voters=(NodeId("n-a"), NodeId("n-b")), learners=(NodeId("n-c"),))
META = SnapshotMeta(last_index=I, last_term=T, membership=GROUP)
ONE_OF_EACH: tuple[Message, ...] = (
    PreVote(term=T, epoch=1, last_index=I, last_term=T),
    PreVoteReply(term=T, epoch=1, for_term=T, is_granted=True),
    RequestVote(term=T, epoch=1, last_index=I, last_term=T, is_transfer=True),
    VoteReply(term=T, epoch=1, is_granted=False),
    AppendEntries(term=T, epoch=1, prev_index=I, prev_term=T, entries=entries_from(6, 3, 3), commit_index=I),
    AppendEntries(
        term=T,
        epoch=1,
        prev_index=I,
        prev_term=T,
        entries=(Entry(term=T, index=LogIndex(6), payload=encode_membership(GROUP), kind=EntryKind.MEMBERSHIP),),
        commit_index=I,
    ),
    AppendReply(term=T, epoch=1, is_accepted=False, index=I, hint_index=LogIndex(2), hint_term=Term(1)),
    Heartbeat(term=T, epoch=1, commit_index=I, round=7),
    HeartbeatReply(term=T, epoch=1, round=7),
    InstallSnapshot(term=T, epoch=1, meta=META, size=10, checksum=2**32 - 1, offset=4, data=b"abcdef"),
    SnapshotReply(term=T, epoch=1, last_index=I, next_offset=10),
    TimeoutNow(term=T, epoch=1),
    ForwardProposals(
        term=T,
        epoch=1,
        session=2**53,
        sequence=1,
        proposals=(ForwardedProposal(proposal_id=ProposalId(1), payload=b"x"),),
    ),
    ForwardReply(
        term=T,
        epoch=1,
        session=1,
        answers=(
            ForwardAnswer(proposal_id=ProposalId(1), index=I),
            ForwardAnswer(proposal_id=ProposalId(2), reason=RejectReason.BUSY, detail="later"),
        ),
    ),
    ForwardRead(term=T, epoch=1, session=1, read_ids=(ReadId(1),)),
    ForwardReadReply(term=T, epoch=1, session=1, read_ids=(ReadId(1),), index=I),
    EpochNotice(term=T, epoch=1),
)


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
def test_every_message_comes_back_from_its_bytes(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


def append(entries: tuple[Entry, ...], term: int = 3) -> AppendEntries:
    return AppendEntries(
        term=Term(term), epoch=0, prev_index=I, prev_term=Term(2), entries=entries, commit_index=LogIndex(0)
    )


NONSENSE: dict[str, Message] = {
    "a gap": append(entries_from(7, 3)),
    "a gap inside": append((*entries_from(6, 3), *entries_from(8, 3))),
    "a term that falls": append(entries_from(6, 3, 2)),
    "a term before that of the entry before": append(entries_from(6, 1)),
    "a term that the sender has not seen": append(entries_from(6, 4)),
    "a group that is none": append((Entry(term=T, index=LogIndex(6), payload=b"nobody", kind=EntryKind.MEMBERSHIP),)),
    "a negative index": AppendReply(term=T, epoch=0, is_accepted=True, index=LogIndex(-1)),
    "a huge term": VoteReply(term=Term(2**60), epoch=0, is_granted=True),
    "more bytes than the snapshot has": InstallSnapshot(
        term=T, epoch=0, meta=META, size=3, checksum=0, offset=2, data=b"abc"
    ),
    "a snapshot of nothing": InstallSnapshot(
        term=T,
        epoch=0,
        meta=SnapshotMeta(last_index=LogIndex(0), last_term=T),
        size=3,
        checksum=0,
        offset=0,
        data=b"abc",
    ),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_what_no_correct_peer_sends_never_reaches_the_machine(what: str) -> None:
    with pytest.raises(PeerProtocolError):
        decode_message(msgspec.msgpack.encode(NONSENSE[what]))


def test_an_unknown_kind_of_message_is_refused_by_name() -> None:
    with pytest.raises(PeerProtocolError, match="makes no sense"):
        decode_message(msgspec.msgpack.encode({"type": "Surrender", "term": 1, "epoch": 0}))


def test_a_message_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(PeerProtocolError, match="at most"):
        decode_message(bytes(MESSAGE_BYTES_MAX + 1))


def test_a_newer_release_may_add_fields() -> None:
    body = msgspec.to_builtins(ONE_OF_EACH[7])
    assert decode_message(msgspec.msgpack.encode({**body, "mood": "fine"})) == ONE_OF_EACH[7]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ONE_OF_EACH), st.integers(0, 400), st.integers(0, 255), st.binary(max_size=40))
def test_damaged_bytes_give_a_message_or_a_clean_refusal(message: Message, place: int, value: int, rest: bytes) -> None:
    damaged = bytearray(encode_message(message))
    damaged[place % len(damaged)] = value
    for body in (bytes(damaged), bytes(damaged) + rest, bytes(damaged[: place % len(damaged)]), rest):
        with contextlib.suppress(PeerProtocolError):
            decode_message(body)
