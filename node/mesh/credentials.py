"""How a node proves who it is, and who else it believes: what the mesh asks of the rest of the node."""

import ssl
from typing import Final, Protocol

from orca.model.ids import NodeId

MESH_ALPN: Final = "orca-mesh/1"
JOIN_ALPN: Final = "orca-join/1"


class Credentials(Protocol):
    """Asked for each new connection, so that a renewed certificate takes effect at once; cache inside."""

    def server_context(self) -> ssl.SSLContext:
        """For who connects to this node: made by `server_context` below, with its chain and the cluster's CAs."""
        ...

    def client_context(self) -> ssl.SSLContext:
        """For peers that this node connects to: made by `client_context` below, with the same."""
        ...

    def authorize(self, certificate: bytes) -> NodeId:
        """Whose `certificate` (DER of the peer's leaf) is.

        Raises ForbiddenError saying why it is not good: unknown, revoked, expired, of another cluster.
        """
        ...


def server_context() -> ssl.SSLContext:
    """TLS 1.3 for the listener, to be given a chain and CAs.

    A client certificate is asked for and not required: who joins has none yet. One that the CAs
    did not sign ends the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # no resumption: a revoked certificate is looked at each time
    context.set_alpn_protocols([MESH_ALPN, JOIN_ALPN])
    return context


def client_context(alpn: str = MESH_ALPN) -> ssl.SSLContext:
    """TLS 1.3 to a listener, to be given a chain and CAs; nodes have no host names, so none is looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.set_alpn_protocols([alpn])
    return context
