"""After everything was healed the group works again: a leader, a write, and all members at the same place."""

from collections.abc import Mapping
from typing import Final

from orca.model.ids import NodeId
from simulations.process import Process

NAME: Final = "progress"


def members_that_count(processes: Mapping[NodeId, Process]) -> list[Process]:
    """The members of the leader's group that can come back; [] as long as nobody leads."""
    leader = current_leader(processes)
    if leader is None:
        return []
    members = [processes[name] for name in leader.machine.membership.members if name in processes]
    return [member for member in members if not member.is_gone_for_good]


def current_leader(processes: Mapping[NodeId, Process]) -> Process | None:
    """Who leads the highest term."""
    leaders = [process for process in processes.values() if process.is_leader]
    return max(leaders, key=lambda process: process.machine.term) if leaders else None


def is_settled(processes: Mapping[NodeId, Process]) -> bool:
    """Whether all members have applied all that there is."""
    leader = current_leader(processes)
    if leader is None or leader.machine.commit_index < leader.machine.last_index:
        return False
    return all(
        member.is_up and member.state.applied == leader.state.applied for member in members_that_count(processes)
    )


def describe(processes: Mapping[NodeId, Process]) -> str:
    """Where everybody is, for the message of a failure."""
    parts = []
    for process in processes.values():
        if not process.is_up:
            parts.append(f"{process.node} is {'gone' if process.is_gone_for_good else 'down'}")
            continue
        machine = process.machine
        parts.append(
            f"{process.node} is {machine.role.value} of term {machine.term}, last {machine.last_index}, "
            f"commit {machine.commit_index}, applied {process.state.applied}, group {machine.membership}"
        )
    return "; ".join(parts)
