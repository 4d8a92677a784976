"""The group as the API has it: to look at, and to start anew."""

from node.group.keeper import GroupKeeper
from node.group.recovery import Recovery
from orca.model.quorum_view import QuorumReply
from orca.model.view import Observation


class Quorum:
    """What people can see of the group, and the one thing that they can do about it."""

    def __init__(self, keeper: GroupKeeper, recovery: Recovery) -> None:
        self._keeper = keeper
        self._recovery = recovery

    def describe(self, observation: Observation) -> QuorumReply:
        """The group as this node knows it."""
        return self._keeper.describe(observation)

    async def recover(self, *, is_forced: bool) -> None:
        """Start the group anew from this node. Raises ConflictError with what speaks against it."""
        await self._recovery.recover(self._keeper.name_of, is_forced=is_forced)
