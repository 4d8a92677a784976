"""What keeps and signs the certificates of the ingress, joined for the agent."""

from collections.abc import Callable, Iterable

from consensus.driver import ReplicaDriver
from node.bell import Bell
from node.certificates.brought import BroughtCertificates, ReadSecrets, Tell
from node.certificates.keeper import CertificateKeeper
from node.certificates.signing import LeafSigner
from node.mesh.driver import Mesh
from node.proxy.certificates import CertificateTable
from node.trust.data_keys import DataKeys
from orca.model.ids import NodeId
from orca.model.trust import NodeRole
from orca.sources import Clock, IdSource


class Certificates:
    """`others` gives the living nodes without this one; `show` takes a new table for the proxy.

    `secrets` gives the values of those that a certificate is made of, `tell` hears what people should know.
    """

    def __init__(  # noqa: PLR0913 - it joins several parts of the node
        self,
        replica: ReplicaDriver,
        mesh: Mesh,
        data_keys: DataKeys,
        clock: Clock,
        ids: IdSource,
        *,
        others: Callable[[], Iterable[NodeId]],
        secrets: ReadSecrets,
        tell: Tell,
        show: Callable[[CertificateTable], None],
        decided: Bell,
    ) -> None:
        def members() -> list[NodeId]:
            nodes = replica.state.nodes
            return [node for node in others() if node in nodes and nodes[node].role is NodeRole.MEMBER]

        self.signer = LeafSigner(lambda: replica.state, mesh, data_keys, clock, members=members)
        self.keeper = CertificateKeeper(
            replica,
            data_keys,
            self.signer,
            BroughtCertificates(secrets, clock.wall, tell),
            clock,
            ids,
            show=show,
            decided=decided,
        )
