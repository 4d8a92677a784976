"""Snapshots: compaction here, and installing one at a peer that needs what the log no longer has (§5)."""

from consensus.raft.core import RaftCore
from consensus.raft.events import SnapshotTaken
from consensus.raft.messages import AppendReply, InstallSnapshot, SnapshotReply
from consensus.raft.progress import PeerState, Progress
from consensus.raft.transfer import SnapshotTransfer
from consensus.storage import Snapshot
from orca.model.ids import LogIndex, NodeId


class Snapshots(RaftCore):
    """The part of the machine that takes, sends and receives snapshots."""

    def _on_snapshot_taken(self, event: SnapshotTaken) -> None:
        """Each node compacts its own log whenever it likes (§5.1)."""
        assert event.upto <= self._applied_index, (
            f"a snapshot up to {event.upto} cannot be: entries are applied up to {self._applied_index}"
        )
        if self._snapshot is not None and event.upto <= self._snapshot.meta.last_index:
            return  # a leader's came meanwhile
        meta = self._log.compact(event.upto, self.config.trailing_entries_max, self.config.trailing_bytes_max)
        self._snapshot = self._compacted = Snapshot(meta=meta, payload=event.payload)

    # The leader's side.

    def _feed_snapshot(self, peer: NodeId, progress: Progress) -> None:
        """Send the next piece, when the last one was answered or is lost; begin when the peer needs a snapshot."""
        if progress.transfer is None:
            assert self._snapshot is not None, f"{peer} needs entry {progress.next_index}, which no snapshot covers"
            progress.install(SnapshotTransfer(self._snapshot))
            self._note(f"{peer} gets the snapshot up to {self._snapshot.meta.last_index}")
        transfer = progress.transfer
        assert transfer is not None
        if transfer.is_waiting:
            return
        transfer.sent(self._round)
        message = InstallSnapshot(
            term=self.term,
            epoch=self.epoch,
            meta=transfer.snapshot.meta,
            size=len(transfer.snapshot.payload),
            checksum=transfer.checksum,
            offset=transfer.offset,
            data=transfer.piece(self.config.snapshot_chunk_bytes),
        )
        self._send_early(peer, message)

    def _on_snapshot_reply(self, sender: NodeId, message: SnapshotReply) -> None:
        """Go on where the follower wants to: in the middle after a break, at the beginning after its restart."""
        progress = self._progress.get(sender)
        if progress is None or progress.state is not PeerState.SNAPSHOT or progress.transfer is None:
            return
        if message.last_index == progress.transfer.snapshot.meta.last_index:
            progress.transfer.wants(message.next_offset)

    # The follower's side.

    def _on_install_snapshot(self, sender: NodeId, message: InstallSnapshot) -> None:
        """Take a piece; the last one replaces the log and the state (§5.3)."""
        meta = message.meta
        known_term = self._log.term_at(meta.last_index)
        if meta.last_index <= self._commit_index or known_term == meta.last_term:
            # What it stands for is here already, entry by entry (§5.3): nothing is lost by going on from here.
            self._commit_to(max(self._commit_index, meta.last_index))
            self._partial.clear()
            self._acknowledge(sender, self._commit_index)
            return
        if self._partial.is_too_large(message):
            self._note(
                f"{sender} sends a snapshot of {message.size} bytes, at most {self.config.snapshot_bytes_max} are taken"
            )
            return
        if not self._partial.take(message):
            self._ask_for_more(sender, meta.last_index)
            return
        snapshot = self._partial.finish()
        if snapshot is None:
            self._note(f"the snapshot up to {meta.last_index} from {sender} is damaged; it begins anew")
            self._ask_for_more(sender, meta.last_index)
            return
        self._restore(snapshot)
        self._acknowledge(sender, meta.last_index)

    def _ask_for_more(self, sender: NodeId, last_index: LogIndex) -> None:
        reply = SnapshotReply(
            term=self.term, epoch=self.epoch, last_index=last_index, next_offset=self._partial.held_bytes
        )
        self._send_late(sender, reply)

    def _restore(self, snapshot: Snapshot) -> None:
        """The log ends with the snapshot, whatever it held; the state is the snapshot's (§5.3)."""
        meta = snapshot.meta
        self._note(f"log and state up to {meta.last_index} come from a snapshot; they ended with {self.last_index}")
        self._log.reset(meta)
        self._snapshot = self._restored = snapshot
        self._commit_index = self._applied_index = meta.last_index

    # Of a follower, for what stores entries too.

    def _commit_to(self, index: LogIndex) -> None:
        """What the leader says is committed, and is here, may be applied."""
        self._commit_index = max(self._commit_index, index)

    def _acknowledge(self, leader: NodeId, index: LogIndex) -> None:
        """Say, once the step is on disk, that the log up to `index` is here and equals the leader's (§3.5).

        Of several such answers of one step only the farthest is sent.
        """
        last = self._late[-1] if self._late else None
        if (
            last is not None
            and last.to == leader
            and isinstance(last.message, AppendReply)
            and last.message.is_accepted
        ):
            if last.message.index >= index:
                return
            self._late.pop()
        self._send_late(leader, AppendReply(term=self.term, epoch=self.epoch, is_accepted=True, index=index))
