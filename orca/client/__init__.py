"""The typed client of a node's HTTP API, used by the CLI, the shell and tests.

`discover_node` says where the node is, `open_client` gives a `NodeClient`, which has one
method an endpoint and raises the same errors that the node raised, found by their code.

What is tried again, once: a connection that was refused, an answer of a replica that
does not lead, and a connection that broke before the answer. The last is safe for
writes too, because each carries a `request_id` made here, and a node applies one id
once. Nothing else is repeated: a conflict stays one. A write whose second try breaks
as well raises `ProposalLostError`, for nobody knows then whether it happened.

Importing this package loads neither trio-websocket nor anything else that only `exec`
needs, so that `orca ps` starts quickly.
"""

from orca.client.api import NodeClient, open_client
from orca.client.channel import ExecChannel, ExecOutput
from orca.client.discover import NodeAddress, default_data_dir, discover_node, parse_address

__all__ = [
    "ExecChannel",
    "ExecOutput",
    "NodeAddress",
    "NodeClient",
    "default_data_dir",
    "discover_node",
    "open_client",
    "parse_address",
]
