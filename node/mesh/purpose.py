"""What a stream of the mesh is for. Pure."""

import enum
from typing import Final

from node.mesh.session.framing import Priority


class Purpose(enum.Enum):
    """What a stream is for."""

    RAFT = "raft"
    INTENT = "intent"
    CONTENT = "content"
    IMAGE = "image"
    STANDING = "standing"
    API = "api"
    TUNNEL = "tunnel"
    TRUST = "trust"
    SECRETS = "secrets"
    DOCTOR = "doctor"
    FACTS = "facts"
    FAREWELL = "farewell"
    LEASES = "leases"
    CERTIFICATES = "certificates"

    @property
    def priority(self) -> Priority:
        """Whose turn it is when several have something to send."""
        return _PRIORITIES.get(self, Priority.INTERACTIVE)


_PRIORITIES: Final = {
    Purpose.RAFT: Priority.URGENT,
    Purpose.LEASES: Priority.URGENT,
    Purpose.CONTENT: Priority.BULK,
    Purpose.IMAGE: Priority.BULK,
}
