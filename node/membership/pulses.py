"""Whether the node beside an agent lives: the agent only vouches for itself. Pure.

A node whose membership is kept by a Serf agent can die, or hang, while its agent goes on. So it sends every other
node of its cluster a pulse over the mesh each `PULSE_S`, and whoever hears nothing from it for `SILENT_S` takes
it for failed, whatever its agent says. It costs n small frames a node in that time, which is why nodes that gossip
themselves, and are probed by gossip, do without.
"""

from typing import Final

from orca.model.ids import NodeId
from orca.model.units import Instant

PULSE_S: Final = 2.0
SILENT_S: Final = 8.0
"""Four pulses, as long as Serf's own `lan` profile takes to find a dead agent."""
STALL_S: Final = 3 * PULSE_S
"""Who has not looked for so long was not there itself, and knows nothing of others."""


class Pulses:
    """When each node beside an agent was last heard."""

    def __init__(self, now: Instant) -> None:
        self._heard: dict[NodeId, Instant] = {}
        self._silent: dict[NodeId, Instant] = {}
        self._looked_at = now

    def __bool__(self) -> bool:
        """Whether anybody should be heard."""
        return bool(self._heard)

    def expect(self, node: NodeId, now: Instant) -> None:
        """Its agent is there: from now on it should be heard."""
        self._heard.setdefault(node, now)

    def forget(self, node: NodeId) -> None:
        """Its agent is gone, and says so."""
        self._heard.pop(node, None)
        self._silent.pop(node, None)

    def hear(self, node: NodeId, now: Instant) -> bool:
        """Something came from it; True when it had been silent."""
        if node not in self._heard:
            return False
        self._heard[node] = now
        return self._silent.pop(node, None) is not None

    def silent_since(self, node: NodeId) -> Instant | None:
        """When a silent node was last heard; None for one that is not silent."""
        return self._silent.get(node)

    def heard_at(self, node: NodeId) -> Instant | None:
        """When it was last heard, or was first expected."""
        return self._heard.get(node)

    def look(self, now: Instant) -> list[NodeId]:
        """The nodes that have just become silent; to be asked each `PULSE_S`."""
        if now - self._looked_at > STALL_S:
            self._heard = dict.fromkeys(self._heard, now)
        self._looked_at = now
        silent = [
            node for node, heard_at in self._heard.items() if now - heard_at > SILENT_S and node not in self._silent
        ]
        self._silent |= {node: self._heard[node] for node in silent}
        return silent
