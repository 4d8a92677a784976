"""What happens to the machine."""

from typing import NewType, TypeAlias

import msgspec

from orca.model.ids import LogIndex

ProposalId = NewType("ProposalId", int)
"""Made by the proposer, unique in its process; says which answer belongs to which proposal."""

ReadId = NewType("ReadId", int)
"""The same for reads."""


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """The time that `deadline()` named has come; an early or late one does no harm."""


class Proposed(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wants `payload` (not empty) in the log."""

    proposal_id: ProposalId
    payload: bytes


class ProposedMany(msgspec.Struct, frozen=True, kw_only=True):
    """Several proposals at once: they are saved in one write, in this order."""

    proposals: tuple[Proposed, ...]


class ReadRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wants to read what was committed up to now."""

    read_id: ReadId


class SnapshotTaken(msgspec.Struct, frozen=True, kw_only=True):
    """`payload` is the replicated state after entry `upto`, which was applied.

    The log up to there is no longer needed. `upto` lies after the last snapshot.
    """

    upto: LogIndex
    payload: bytes


class SaveFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The saves of the last step did not reach the disk, none of them.

    Only for a store that said so (`StoreFullError`): after any other error the process
    cannot know what is on disk, and must load it again.
    """

    detail: str


Event: TypeAlias = Tick | Proposed | ProposedMany | ReadRequested | SnapshotTaken | SaveFailed
