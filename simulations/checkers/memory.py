"""What a member holds is bounded by what there is, whatever happened before."""

from collections.abc import Iterator
from typing import Final

from simulations.checkers.group import GroupChecker
from simulations.members.member import Member

DEEP_EVERY_S: Final = 7
"""The machines' own invariants cost more than a simulated second; so often they are looked at."""
QUEUE_MAX: Final = 64


class Memory(GroupChecker):
    """Sizes of tables and queues each second, the machines' own invariants every few."""

    name = "memory"
    _seconds = 0

    def look(self) -> None:
        """Look at everybody who is up."""
        self._seconds += 1
        for member in self.group.up():
            for what, size, most in self._sizes(member):
                if size > most:
                    self.fail(f"{member.node} holds {size} {what}; {most} is the most")
            if self._seconds % DEEP_EVERY_S == 0:
                member.machine.check_invariants()

    def _sizes(self, member: Member) -> Iterator[tuple[str, int, int]]:
        nodes = len(self.group.members)
        swim, serf = member.machine.swim.counts, member.machine.serf
        yield "members", swim["members"], nodes
        yield "claims to spread", swim["claims_queued"], nodes
        yield "suspicions", swim["suspects"], nodes
        yield "members of Serf", len(serf.members()), nodes
        for name, depth in serf.queue_depths.items():
            yield f"{name} to spread", depth, nodes if name == "intents" else QUEUE_MAX
        yield "writers of facts", len(member.machine.facts.writers()), nodes
