"""Membership changes, one member at a time (§4.1 to §4.3)."""

from typing import Final, assert_never

from consensus.raft.effects import Accepted
from consensus.raft.events import AddLearner, MembershipChange, MembershipProposed, Promote, Remove
from consensus.raft.messages import TimeoutNow
from consensus.raft.progress import PeerProgress, Progress
from consensus.raft.proposals import Proposals, Refusal
from consensus.raft.requests import RejectReason
from consensus.storage import Entry, EntryKind, Membership, encode_membership
from orca.model.ids import LogIndex, NodeId
from orca.model.units import Instant

DEPARTURE_TIMEOUTS: Final = 10
"""A removed member is told of its removal for so many election timeouts at most."""


def changed(membership: Membership, change: MembershipChange) -> Membership | str:
    """The group after `change`, or why it makes no sense.

    Any two groups that differ by one voter have a voter common to all their quorums, so one
    change at a time needs no joint consensus (§4.1).
    """
    node, voters, learners = change.node, membership.voters, membership.learners
    match change:
        case AddLearner():
            if node in membership.members:
                return f"{node} is a member already"
            return Membership(voters=voters, learners=tuple(sorted((*learners, node))))
        case Promote():
            if node not in learners:
                return f"{node} is no learner: {_shown(membership)}"
            rest = tuple(one for one in learners if one != node)
            return Membership(voters=tuple(sorted((*voters, node))), learners=rest)
        case Remove():
            if node not in membership.members:
                return f"{node} is no member: {_shown(membership)}"
            if voters == (node,):
                return f"{node} is the last voter; add another one first"
            return Membership(
                voters=tuple(one for one in voters if one != node),
                learners=tuple(one for one in learners if one != node),
            )
        case _:
            assert_never(change)


def _shown(membership: Membership) -> str:
    learners = ", ".join(membership.learners) or "none"
    return f"voters are {', '.join(membership.voters)}; learners are {learners}"


class MembershipChanges(Proposals):
    """The part of the machine that changes the group."""

    def _on_membership_proposed(self, event: MembershipProposed) -> None:
        refusal = self._membership_refusal(event.change)
        after = changed(self.membership, event.change)
        if refusal is None and isinstance(after, str):
            refusal = Refusal(RejectReason.REFUSED, after)
        if refusal is not None or isinstance(after, str):
            assert refusal is not None
            self._reject(event.proposal_id, refusal)
            return
        index = LogIndex(self.last_index + 1)
        payload = encode_membership(after)
        self._append_own([Entry(term=self.term, index=index, payload=payload, kind=EntryKind.MEMBERSHIP)])
        self._answers.append(Accepted(proposal_id=event.proposal_id, term=self.term, index=index))
        self._accepted_here[event.proposal_id] = None
        self._match_peers()

    def _membership_refusal(self, change: MembershipChange) -> Refusal | None:
        """Why no change may begin now, whatever it is."""
        if not self.is_leader:
            return Refusal(RejectReason.NOT_LEADER)
        if self._transfer_to is not None:
            return Refusal(RejectReason.BUSY, f"leadership is being handed to {self._transfer_to}")
        if not self._has_committed_own:
            # Without this a change of a leader and one of its predecessor could both be under way, and two
            # disjoint majorities decide (Ongaro on raft-dev, 2015, correcting §4.1).
            return Refusal(RejectReason.BUSY, "no entry of this term is committed yet; try again shortly")
        if self._log.membership_index > self._commit_index:
            detail = f"the change of entry {self._log.membership_index} is not committed yet"
            return Refusal(RejectReason.BUSY, detail)
        if isinstance(change, Promote) and change.node in self.membership.learners:
            return self._catch_up_refusal(change.node)
        return None

    def _catch_up_refusal(self, learner: NodeId) -> Refusal | None:
        """A learner votes only when waiting for it costs no more than an election would (§4.2.1)."""
        progress = self._progress[learner]
        if self._has_caught_up(progress):
            return None
        took = progress.catch_up.last_round_s
        detail = (
            f"{learner} has not caught up: it stores entry {progress.match_index} of {self.last_index}; "
            f"{progress.catch_up.rounds} rounds, the last " + ("not ended" if took is None else f"took {took:.2f} s")
        )
        return Refusal(RejectReason.BUSY, detail)

    def _has_caught_up(self, progress: Progress) -> bool:
        limit_s = self.config.election_timeout_s
        is_here = progress.contact_at >= self._now - limit_s
        return is_here and progress.catch_up.is_done(limit_s, self._now)

    # The peers of a leader.

    def _match_peers(self) -> None:
        """Feed the members of the newest group, from the moment it is in the log (§4.1).

        Who was removed is fed until it knows, or for a while: a removed voter that knows does not campaign.
        """
        members = self.membership.members
        for peer in members:
            if peer != self.node and peer not in self._progress:
                # Begin with the newest entry: a peer that lacks others says so.
                self._progress[peer] = Progress(self.last_index, self.last_index, self._now)
        for peer, progress in self._progress.items():
            if peer in members:
                progress.departs_at = None
            elif progress.departs_at is None:
                progress.departs_at = self._departure()
        if self._progress and self._heartbeat_at == float("inf"):
            self._heartbeat_at = Instant(self._now + self.config.heartbeat_s)

    def _feed_removed(self, sender: NodeId) -> None:
        """A node that asks for votes and is no member was removed, and does not know: tell it by its log."""
        if sender not in self.membership.members and sender not in self._progress:
            progress = Progress(self.last_index, self.last_index, self._now)
            progress.departs_at = self._departure()
            self._progress[sender] = progress
            self._match_peers()

    def _departure(self) -> Instant:
        return Instant(self._now + DEPARTURE_TIMEOUTS * self.config.election_timeout_s)

    def _forget_departed(self) -> None:
        """Stop feeding removed members that know of it, and those that cannot be told."""
        for peer in list(self._progress):
            progress = self._progress[peer]
            knows = progress.knows_commit(self._log.membership_index)
            if progress.departs_at is not None and (knows or self._now >= progress.departs_at):
                del self._progress[peer]

    def _leave_when_removed(self) -> None:
        """A leader that removed itself leads until that is committed, then somebody else does (§4.2.2)."""
        if self.is_voter or self._log.membership_index > self._commit_index:
            return
        self._note("is no voter any more, so it leads no more")
        heir = self._best_heir()
        if heir is not None:
            self._send_late(heir, TimeoutNow(term=self.term, epoch=self.epoch))
        self._become_follower(self.term, None)

    def _best_heir(self) -> NodeId | None:
        """The voter, heard of lately, that has most of the log; ties go to the smaller id."""
        oldest = self._now - self.config.election_timeout_s
        heirs = [
            (-progress.match_index, peer)
            for peer, progress in self._progress.items()
            if peer in self.membership.voters and progress.contact_at >= oldest
        ]
        return min(heirs)[1] if heirs else None

    def _lead(self) -> None:
        super()._lead()
        self._leave_when_removed()

    def progress(self) -> tuple[PeerProgress, ...]:
        """What this leader knows of its peers, sorted; () elsewhere."""
        return tuple(
            PeerProgress(
                node=peer,
                is_voter=peer in self.membership.voters,
                match_index=one.match_index,
                next_index=one.next_index,
                state=one.state,
                lag=self.last_index - one.match_index,
                contact_at=one.contact_at,
                has_caught_up=self._has_caught_up(one),
            )
            for peer, one in sorted(self._progress.items())
        )
