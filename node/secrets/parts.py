"""All of this node's secrets, joined: what opens them here, what asks others, and what people can do."""

from collections.abc import Callable, Iterable

from consensus.driver import ReplicaDriver
from node.mesh.driver import Mesh
from node.secrets.control import SecretControl
from node.secrets.rotation import ExposureKeeper, KeyRotation
from node.secrets.sharing import SecretSharing
from node.secrets.values import SecretValues
from node.trust.data_keys import DataKeys
from orca.model.ids import NodeId
from orca.model.trust import NodeRole
from orca.sources import Clock, IdSource


class Secrets:
    """`others` gives the living nodes without this one."""

    def __init__(
        self,
        replica: ReplicaDriver,
        mesh: Mesh,
        data_keys: DataKeys,
        clock: Clock,
        ids: IdSource,
        *,
        others: Callable[[], Iterable[NodeId]],
    ) -> None:
        def members() -> list[NodeId]:
            nodes = replica.state.nodes
            return [one for one in others() if one in nodes and nodes[one].role is NodeRole.MEMBER]

        def sealers() -> tuple[NodeId, ...]:
            return () if data_keys.can_open(data_keys.newest) else tuple(members())

        self.sharing = SecretSharing(lambda: replica.state, mesh, members=members)
        self.values = self.sharing.values = SecretValues(lambda: replica.state, data_keys, self.sharing)
        rotation = KeyRotation(replica, data_keys, clock, ids)
        self.control = SecretControl(replica, data_keys, clock, rotation, sealers=sealers)
        self.keeper = ExposureKeeper(data_keys.node, replica, rotation, clock, others=others)
