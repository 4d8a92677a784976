"""`orca status`: the cluster at a glance."""

from orca.client.reads import NodeReads
from orca.model.view import StatusReply


async def cluster_status(client: NodeReads) -> StatusReply:
    """Nodes, leader and services as the asked node knows them."""
    return await client.status()
