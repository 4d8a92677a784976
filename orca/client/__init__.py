"""The typed client of a node's HTTP API, used by the CLI, the shell and tests.

`discover_node` says where the node is, `open_client` gives a `NodeClient`, which has one
method an endpoint and raises the same errors that the node raised, found by their code.

What is tried again: once, a connection that was refused or that broke before the answer; for
some seconds, a call to a node whose group has no leader at the moment. All that is safe for
writes too, because each carries a `request_id` made here, and a node applies one id
once. Nothing else is repeated: a conflict stays one. A write whose second try breaks
as well raises `ProposalLostError`, for nobody knows then whether it happened.

A read can also be carried without an event loop (`plain_reads`): commands that look once
start in half the time. Importing this package therefore loads nothing until a name is
used, and never trio-websocket, which only `exec` needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orca.client.api import NodeClient, open_client
    from orca.client.channel import ExecChannel, ExecOutput
    from orca.client.credentials import Credentials, find_credentials
    from orca.client.discover import NodeAddress, default_data_dir, discover_node, parse_address
    from orca.client.plain import plain_reads
    from orca.client.reads import NodeReads

_HOMES = {
    "Credentials": "credentials",
    "ExecChannel": "channel",
    "ExecOutput": "channel",
    "NodeAddress": "discover",
    "NodeClient": "api",
    "NodeReads": "reads",
    "default_data_dir": "discover",
    "discover_node": "discover",
    "find_credentials": "credentials",
    "open_client": "api",
    "parse_address": "discover",
    "plain_reads": "plain",
}


def __getattr__(name: str) -> Any:
    """Load the part that has `name`."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "Credentials",
    "ExecChannel",
    "ExecOutput",
    "NodeAddress",
    "NodeClient",
    "NodeReads",
    "default_data_dir",
    "discover_node",
    "find_credentials",
    "open_client",
    "parse_address",
    "plain_reads",
]
