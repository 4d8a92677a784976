"""What people ask of the group, by number, and why an answer is no."""

import enum
from typing import NewType

ProposalId = NewType("ProposalId", int)
"""Made by the proposer, unique in its process; says which answer belongs to which proposal."""

ReadId = NewType("ReadId", int)
"""The same for reads."""


class RejectReason(enum.Enum):
    """Why a proposal or a read got no place."""

    NOT_LEADER = "not_leader"
    SAVE_FAILED = "save_failed"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    """Too much of it is under way; a later try may succeed."""
    REFUSED = "refused"
    """A change of the membership that makes no sense as the group stands; the detail says why."""
