"""What the machine wants done, in list order."""

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from consensus.raft.messages import Message
from consensus.raft.requests import ProposalId, ReadId, RejectReason
from consensus.storage import Entry, HardState, LogWrite, Membership, Snapshot
from orca.model.ids import LogIndex, NodeId, Term


class SaveHardState(msgspec.Struct, frozen=True, kw_only=True):
    """Barrier: make term, vote and epoch durable before what follows."""

    hard_state: HardState


class SaveEntries(msgspec.Struct, frozen=True, kw_only=True):
    """Barrier: remove the log from `truncate_from` on, then append `entries`, durably."""

    entries: tuple[Entry, ...]
    truncate_from: LogIndex | None = None


class SaveSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Barrier: keep the snapshot and drop the entries that it covers, durably."""

    snapshot: Snapshot


class SendMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Send `message` to `to`; it may get lost. Before the saves of a step it need not wait for them."""

    to: NodeId
    message: Message


class RestoreSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The replicated state is the one of `snapshot` from now on, whatever it was before."""

    snapshot: Snapshot


class Apply(msgspec.Struct, frozen=True, kw_only=True):
    """`entries` are committed: apply them in order.

    One with an empty payload, or of kind MEMBERSHIP, changes nothing in the replicated state.
    """

    entries: tuple[Entry, ...]


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The proposal is entry `index` of `term`; applying that entry gives its outcome.

    When an entry of another term is applied at `index`, the proposal is lost.
    """

    proposal_id: ProposalId
    term: Term
    index: LogIndex


class ProposalRejected(msgspec.Struct, frozen=True, kw_only=True):
    """The proposal did not happen and never will; `leader` is who may take it, where known."""

    proposal_id: ProposalId
    reason: RejectReason
    leader: NodeId | None = None
    detail: str = ""


class ProposalLost(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody here will learn what became of the proposal: it may have happened, or may yet."""

    proposal_id: ProposalId


class ReadReady(msgspec.Struct, frozen=True, kw_only=True):
    """A state that has applied entry `index` answers the read linearizably (§6.4).

    The state of this node may still be behind: wait until it has come so far.
    """

    read_id: ReadId
    index: LogIndex


class ReadRejected(msgspec.Struct, frozen=True, kw_only=True):
    """The node asked cannot say what was committed; `leader` can, where known."""

    read_id: ReadId
    reason: RejectReason
    leader: NodeId | None = None


class LeaderChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Who leads in `term`, as this node knows it; None for nobody."""

    term: Term
    leader: NodeId | None


class MembershipChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The group is `membership` as of entry `index`, from the moment it is in the log (§4.1).

    The entry may still be replaced; another MembershipChanged then takes it back.
    """

    membership: Membership
    index: LogIndex


class Outranked(msgspec.Struct, frozen=True, kw_only=True):
    """The group was started anew as `epoch`: this node's log belongs to another past and must be set aside.

    The machine does nothing any more.
    """

    epoch: int


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """Something worth a line in the log of the node."""

    message: str


Save: TypeAlias = SaveHardState | SaveEntries | SaveSnapshot
Effect: TypeAlias = (
    Save
    | SendMessage
    | RestoreSnapshot
    | Apply
    | Accepted
    | ProposalRejected
    | ProposalLost
    | ReadReady
    | ReadRejected
    | LeaderChanged
    | MembershipChanged
    | Outranked
    | Noted
)


def collect_write(
    effects: Sequence[Effect], commit_index: LogIndex | None = None
) -> tuple[list[SendMessage], LogWrite | None, list[Effect]]:
    """The effects of one step as a driver performs them: before its write, the write, after it.

    `commit_index` is the machine's after the step: a write takes it along, since it costs nothing there.

    What comes before are messages that need not wait for this node's disk. The saves are one
    transaction, None when there are none; then every effect is in the third part. A step gives at most one
    save of each kind.
    """
    hard_state: HardState | None = None
    saved_entries: SaveEntries | None = None
    snapshot: Snapshot | None = None
    first: int | None = None
    end = 0
    for position, effect in enumerate(effects):
        match effect:
            case SaveHardState():
                assert hard_state is None, "a step saves one hard state"
                hard_state = effect.hard_state
            case SaveEntries():
                assert saved_entries is None, "a step saves entries once"
                saved_entries = effect
            case SaveSnapshot():
                assert snapshot is None, "a step saves one snapshot"
                snapshot = effect.snapshot
            case _:
                continue
        assert first is None or position == end, f"{effect} comes after {effects[position - 1]}: saves stand together"
        first = position if first is None else first
        end = position + 1
    if first is None:
        return [], None, list(effects)
    before: list[SendMessage] = []
    for effect in effects[:first]:
        assert isinstance(effect, SendMessage), f"{effect} comes before the saves: only messages do"
        before.append(effect)
    write = LogWrite(
        hard_state=hard_state,
        truncate_from=None if saved_entries is None else saved_entries.truncate_from,
        entries=() if saved_entries is None else saved_entries.entries,
        snapshot=snapshot,
        commit_index=commit_index,
    )
    return before, write, list(effects[end:])
