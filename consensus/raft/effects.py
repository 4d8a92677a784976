"""What the machine wants done, in list order."""

import enum
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from consensus.raft.events import ProposalId, ReadId
from consensus.storage import Entry, HardState, LogWrite, Snapshot
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


class Apply(msgspec.Struct, frozen=True, kw_only=True):
    """`entries` are committed: apply them in order; one with an empty payload changes nothing."""

    entries: tuple[Entry, ...]


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The proposal is entry `index` of `term`; applying that entry gives its outcome.

    When an entry of another term is applied at `index`, the proposal is lost.
    """

    proposal_id: ProposalId
    term: Term
    index: LogIndex


class RejectReason(enum.Enum):
    """Why a proposal or a read got no place."""

    NOT_LEADER = "not_leader"
    SAVE_FAILED = "save_failed"
    TOO_LARGE = "too_large"


class ProposalRejected(msgspec.Struct, frozen=True, kw_only=True):
    """The proposal did not happen and never will; `leader` is who may take it, where known."""

    proposal_id: ProposalId
    reason: RejectReason
    leader: NodeId | None = None
    detail: str = ""


class ReadReady(msgspec.Struct, frozen=True, kw_only=True):
    """A state that has applied entry `index` answers the read linearizably (§6.4)."""

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


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """Something worth a line in the log of the node."""

    message: str


Save: TypeAlias = SaveHardState | SaveEntries | SaveSnapshot
Effect: TypeAlias = Save | Apply | Accepted | ProposalRejected | ReadReady | ReadRejected | LeaderChanged | Noted


def collect_write(effects: Sequence[Effect]) -> tuple[LogWrite | None, list[Effect]]:
    """The saves of one step as one transaction, None without any, and the other effects in order.

    A step gives at most one save of each kind, and all of them before anything else.
    """
    hard_state: HardState | None = None
    saved_entries: SaveEntries | None = None
    snapshot: Snapshot | None = None
    rest: list[Effect] = []
    for effect in effects:
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
                rest.append(effect)
                continue
        assert not rest, f"{effect} comes after {rest[-1]}: the saves of a step come first"
    if hard_state is None and saved_entries is None and snapshot is None:
        return None, rest
    return LogWrite(
        hard_state=hard_state,
        truncate_from=None if saved_entries is None else saved_entries.truncate_from,
        entries=() if saved_entries is None else saved_entries.entries,
        snapshot=snapshot,
    ), rest
