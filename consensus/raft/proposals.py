"""Proposals: entries of a leader, or passed on to it once (§6.2: a server that does not lead passes requests on)."""

from collections.abc import Sequence
from typing import NamedTuple

from consensus.raft.effects import Accepted, ProposalLost, ProposalRejected
from consensus.raft.events import Proposed
from consensus.raft.messages import ForwardAnswer, ForwardedProposal, ForwardProposals, ForwardReply
from consensus.raft.reads import Reads
from consensus.raft.requests import ProposalId, RejectReason
from consensus.storage import Entry
from orca.model.ids import LogIndex, NodeId
from orca.model.units import Instant


class Refusal(NamedTuple):
    """Why not, in a word and in a sentence, and who else might."""

    reason: RejectReason
    detail: str = ""
    leader: NodeId | None = None


class Proposals(Reads):
    """The part of the machine that takes what shall be in the log."""

    def _on_proposals(self, proposals: Sequence[Proposed]) -> None:
        if self.is_leader:
            self._propose(proposals)
        elif self._leader is None:
            for proposal in proposals:
                self._reject(proposal.proposal_id, Refusal(RejectReason.NOT_LEADER))
        else:
            self._pass_on(proposals, self._leader)

    def _propose(self, proposals: Sequence[Proposed]) -> None:
        entries: list[Entry] = []
        term, last_index = self.term, self.last_index
        room = self._room()
        for proposal in proposals:
            assert proposal.payload, f"proposal {proposal.proposal_id} is empty, which stands for a no-op"
            refusal = room.refusal(len(proposal.payload))
            if refusal is not None:
                self._reject(proposal.proposal_id, refusal)
                continue
            index = LogIndex(last_index + len(entries) + 1)
            entries.append(Entry(term=term, index=index, payload=proposal.payload))
            self._answers.append(Accepted(proposal_id=proposal.proposal_id, term=term, index=index))
            self._accepted_here[proposal.proposal_id] = None
        self._append_own(entries)

    def _reject(self, proposal_id: ProposalId, refusal: Refusal) -> None:
        self._answers.append(
            ProposalRejected(
                proposal_id=proposal_id,
                reason=refusal.reason,
                leader=refusal.leader or self._leader,
                detail=refusal.detail,
            )
        )

    def _room(self) -> "_Room":
        """How much more this leader takes now."""
        if self._transfer_to is not None:
            detail = f"leadership is being handed to {self._transfer_to}"
            closed = Refusal(RejectReason.NOT_LEADER, detail, self._transfer_to)
            return _Room(self.config.payload_bytes_max, 0, 0, closed)
        return _Room(
            self.config.payload_bytes_max,
            self.config.uncommitted_entries_max - (self.last_index - self._commit_index),
            self.config.uncommitted_bytes_max - self._uncommitted_bytes,
            None,
        )

    # Passed on.

    def _pass_on(self, proposals: Sequence[Proposed], leader: NodeId) -> None:
        """Hand proposals to the leader, in messages of the size of an append; it passes them on to nobody."""
        batch: list[ForwardedProposal] = []
        size = 0
        for proposal in proposals:
            assert proposal.payload, f"proposal {proposal.proposal_id} is empty, which stands for a no-op"
            if len(proposal.payload) > self.config.payload_bytes_max:
                self._reject(proposal.proposal_id, _too_large(len(proposal.payload), self.config.payload_bytes_max))
                continue
            if self._forwarded.count >= self.config.forwards_max:
                detail = f"{self.config.forwards_max} requests to {leader} are not answered yet"
                self._reject(proposal.proposal_id, Refusal(RejectReason.BUSY, detail))
                continue
            if batch and size + len(proposal.payload) > self.config.append_bytes_max:
                self._send_forward(batch, leader)
                batch, size = [], 0
            batch.append(ForwardedProposal(proposal_id=proposal.proposal_id, payload=proposal.payload))
            size += len(proposal.payload)
            until = Instant(self._now + self.config.forward_timeout_s)
            self._forwarded.add_proposal(proposal.proposal_id, until)
        if batch:
            self._send_forward(batch, leader)

    def _send_forward(self, batch: list[ForwardedProposal], leader: NodeId) -> None:
        self._sequence += 1
        message = ForwardProposals(
            term=self.term,
            epoch=self.epoch,
            session=self._session,
            sequence=self._sequence,
            proposals=tuple(batch),
        )
        self._send_early(leader, message)

    def _on_forward_proposals(self, sender: NodeId, message: ForwardProposals) -> None:
        """Take proposals of another node, of this term and once: the same message may come twice, or late.

        Who led this term and does not any more says nothing, rather than no to what it may have taken.
        """
        if not self.is_leader:
            if self._hard_state.voted_for != self.node:
                self._answer_forward(
                    sender, message, [_refused(one, RejectReason.NOT_LEADER) for one in message.proposals]
                )
            return
        if not self._seen_forwards.is_new(sender, message.session, message.sequence):
            return
        entries: list[Entry] = []
        answers: list[ForwardAnswer] = []
        room = self._room()
        for one in message.proposals:
            refusal = room.refusal(len(one.payload)) if one.payload else Refusal(RejectReason.REFUSED, "it is empty")
            if refusal is not None:
                answers.append(_refused(one, refusal.reason, refusal.detail))
                continue
            index = LogIndex(self.last_index + len(entries) + 1)
            entries.append(Entry(term=self.term, index=index, payload=one.payload))
            answers.append(ForwardAnswer(proposal_id=one.proposal_id, index=index))
        self._append_own(entries)
        self._answer_forward(sender, message, answers)

    def _answer_forward(self, sender: NodeId, message: ForwardProposals, answers: list[ForwardAnswer]) -> None:
        """Which entry each became. Sent before the entries, so that nobody applies one before it knows whose it is."""
        reply = ForwardReply(term=self.term, epoch=self.epoch, session=message.session, answers=tuple(answers))
        self._send_early(sender, reply)

    def _on_forward_reply(self, message: ForwardReply) -> None:
        if message.session != self._session:
            return
        for answer in message.answers:
            if not self._forwarded.end_proposal(answer.proposal_id):
                continue
            if answer.reason is not None:
                self._reject(answer.proposal_id, Refusal(answer.reason, answer.detail))
            elif answer.index <= self._applied_index:
                # The answer was overtaken by the entry: its outcome was seen here as somebody else's.
                self._answers.append(ProposalLost(proposal_id=answer.proposal_id))
            else:
                accepted = Accepted(proposal_id=answer.proposal_id, term=message.term, index=answer.index)
                self._answers.append(accepted)


class _Room:
    """What one batch of proposals may still take."""

    def __init__(self, payload_bytes_max: int, entries: int, size: int, closed: Refusal | None) -> None:
        self._payload_bytes_max = payload_bytes_max
        self._entries = entries
        self._bytes = size
        self._closed = closed

    def refusal(self, payload_bytes: int) -> Refusal | None:
        """Why a payload of that size is not taken; None when it is, and has its place."""
        if self._closed is not None:
            return self._closed
        if payload_bytes > self._payload_bytes_max:
            return _too_large(payload_bytes, self._payload_bytes_max)
        # A payload larger than the room is taken when nothing else waits: it could never be otherwise.
        if self._entries <= 0 or self._bytes <= 0:
            return Refusal(RejectReason.BUSY, "too many entries wait for a quorum; try again later")
        self._entries -= 1
        self._bytes -= payload_bytes
        return None


def _too_large(payload_bytes: int, bytes_max: int) -> Refusal:
    return Refusal(RejectReason.TOO_LARGE, f"{payload_bytes} bytes, at most {bytes_max} fit into one entry")


def _refused(proposal: ForwardedProposal, reason: RejectReason, detail: str = "") -> ForwardAnswer:
    return ForwardAnswer(proposal_id=proposal.proposal_id, reason=reason, detail=detail)
