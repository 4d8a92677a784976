"""Acknowledged writes are kept: each is in the final state of every node, with the answer that was given."""

from collections.abc import Mapping

from orca.model.ids import NodeId
from simulations.history import History
from simulations.registers import Registers

NAME = "durability"


def find_lost_writes(history: History, states: Mapping[NodeId, Registers]) -> list[str]:
    """One line a write that some node does not know, or remembers otherwise."""
    lost = []
    for record in history.acknowledged():
        request = record.operation.request
        without = [node for node, state in states.items() if request not in state.answers]
        if without:
            lost.append(f"acknowledged write {record} is unknown to {', '.join(without)}")
            continue
        others = [node for node, state in states.items() if state.answers[request] != record.outcome]
        if others:
            lost.append(f"acknowledged write {record} had another outcome at {', '.join(others)}")
    return lost
