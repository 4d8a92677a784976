"""Linearizable reads by read-index (§6.4), on the leader and passed on to it."""

from consensus.raft.effects import ReadReady, ReadRejected
from consensus.raft.messages import ForwardRead, ForwardReadReply
from consensus.raft.pending import PendingRead
from consensus.raft.quorum import reached_by_quorum
from consensus.raft.replication import Replication
from consensus.raft.requests import ReadId, RejectReason
from orca.model.ids import LogIndex, NodeId
from orca.model.units import Instant


class Reads(Replication):
    """The part of the machine that says how far a state must have come to answer a read."""

    def _on_read(self, read_id: ReadId) -> None:
        if self.is_leader:
            self._add_read(PendingRead(None, self._session, (read_id,)))
        elif self._leader is None:
            self._refuse_read(read_id, RejectReason.NOT_LEADER)
        elif self._forwarded.count >= self.config.forwards_max:
            self._refuse_read(read_id, RejectReason.BUSY)
        else:
            self._forwarded.add_read(read_id, Instant(self._now + self.config.forward_timeout_s))
            message = ForwardRead(term=self.term, epoch=self.epoch, session=self._session, read_ids=(read_id,))
            self._send_early(self._leader, message)

    def _refuse_read(self, read_id: ReadId, reason: RejectReason) -> None:
        self._read_answers.append(ReadRejected(read_id=read_id, reason=reason, leader=self._leader))

    def _on_forward_read(self, sender: NodeId, message: ForwardRead) -> None:
        read = PendingRead(sender, message.session, message.read_ids)
        if self.is_leader:
            self._add_read(read)
        else:
            self._reject_read(read, RejectReason.NOT_LEADER)

    def _add_read(self, read: PendingRead) -> None:
        if self._reads.count + len(read.read_ids) > self.config.reads_max:
            self._reject_read(read, RejectReason.BUSY)
        else:
            self._reads.add(read)

    def _on_forward_read_reply(self, message: ForwardReadReply) -> None:
        if message.session != self._session:
            return  # an answer to an earlier life of this node, whose numbers mean something else
        for read_id in message.read_ids:
            if not self._forwarded.end_read(read_id):
                continue
            if message.index is None:
                self._refuse_read(read_id, RejectReason.NOT_LEADER)
            else:
                self._read_answers.append(ReadReady(read_id=read_id, index=message.index))

    def _begin_read_round(self) -> None:
        """Reads that wait go with a new round of heartbeats, and will be answered with the commit index of now.

        Not before an entry of this term is committed: until then entries that an earlier leader
        committed may be unknown here (§6.4, step 1).
        """
        if self._reads.has_waiting and self._has_committed_own:
            self._send_heartbeats()
            self._reads.begin_round(self._round, self._commit_index)

    def _answer_reads(self) -> None:
        """A quorum that answered a round followed this leader after the reads came: nobody newer led (§6.4, step 3)."""
        if not self._reads.count:
            return
        for index, read in self._reads.confirm(self._quorum_round()):
            self._answer_read(index, read)

    def _quorum_round(self) -> int:
        return reached_by_quorum(
            [
                self._round if voter == self.node else self._progress[voter].acked_round
                for voter in self._log.membership.voters
            ]
        )

    def _answer_read(self, index: LogIndex, read: PendingRead) -> None:
        if read.origin is None:
            self._read_answers += [ReadReady(read_id=read_id, index=index) for read_id in read.read_ids]
            return
        reply = ForwardReadReply(
            term=self.term, epoch=self.epoch, session=read.session, read_ids=read.read_ids, index=index
        )
        self._send_late(read.origin, reply)

    def _lead(self) -> None:
        super()._lead()
        self._begin_read_round()
        self._answer_reads()
