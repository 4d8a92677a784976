"""`orca version`: this program's version and the node's."""

import msgspec

from orca.client.reads import NodeReads
from orca.errors import OrcaError
from orca.version import VERSION


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """`node` is empty when no node answered, and `problem` says why."""

    client: str
    node: str = ""
    node_name: str = ""
    address: str = ""
    problem: str = ""


async def versions(client: NodeReads) -> Versions:
    """Both versions; a node that does not answer is no error here."""
    try:
        node = await client.node()
    except OrcaError as error:
        return Versions(client=VERSION, address=str(client.address), problem=error.message)
    return Versions(client=VERSION, node=node.facts.version, node_name=node.facts.name, address=str(client.address))
