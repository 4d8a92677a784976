"""Which release understands what: the schema of commands, and when it may be raised.

A *schema* is the set of commands and fields that `apply` knows, and what they do. Each
release knows all up to `commands.base.SCHEMA`; the state carries the one in force, which starts at 1 and only
`RaiseSchema` raises. Until then the newer release behaves like the older one:

1. Whoever starts tells the cluster the newest schema that its release knows (`AdmitNode`,
   `RedeemJoinToken`), and the state keeps it. A node that knows less than what is
   in force is not admitted.
2. The leader proposes `RaiseSchema(to)` when `raisable_schema` names one: every admitted
   node knows it, the dead ones too (remove a node that will not come back). `apply` checks the
   same once more, on the state and on nothing else.
3. A command, or a field of one, that is newer than what is in force is not proposed
   (`check_proposable`), and `apply` refuses it if it comes nevertheless.
4. A release that meets what it does not know (a tag, a field, a schema) stops applying
   there. It must never skip what others carry out.

What needs a new schema: a new command, a new field in one or in a record that `apply`
writes, and any other doing of `apply` for a command that exists, limits included. Such a
doing asks for `state.schema` first, so that all releases do the same at one place of the log.
"""

import msgspec

from consensus.state.cluster import ClusterState
from consensus.state.commands import base
from consensus.state.commands.base import CommandStruct
from orca.errors import NotAvailableError
from orca.model.ids import NodeId


def schema_of(command: CommandStruct) -> int:
    """The schema that must be in force for `command`."""
    needed = command.since
    if not command.fields_since:
        return needed
    for field in msgspec.structs.fields(command):
        default = field.default_factory() if callable(field.default_factory) else field.default
        if field.name in command.fields_since and getattr(command, field.name) != default:
            needed = max(needed, command.fields_since[field.name])
    return needed


def lagging_nodes(state: ClusterState, schema: int) -> list[NodeId]:
    """The admitted nodes whose release does not know `schema`, by id."""
    return sorted(node for node, record in state.nodes.items() if record.schema < schema)


def raisable_schema(state: ClusterState) -> int | None:
    """The schema to raise to now, None when there is none: the newest that all nodes know."""
    if state.schema >= base.SCHEMA:
        return None  # mostly; asked at each turn of the leader
    newest = min([base.SCHEMA, *(record.schema for record in state.nodes.values())])
    return newest if state.nodes and newest > state.schema else None


def explain_lag(state: ClusterState, schema: int) -> str:
    """Which nodes hold schema `schema` back, in words; empty when none does."""
    lagging = lagging_nodes(state, schema)
    if not lagging:
        return ""
    names = ", ".join(f"{state.nodes[node].name or node} (knows {state.nodes[node].schema})" for node in lagging[:10])
    more = f" and {len(lagging) - 10} more" if len(lagging) > 10 else ""
    return f"update {names}{more}, or remove what will not come back"


def check_proposable(state: ClusterState, command: CommandStruct) -> None:
    """Raise NotAvailableError when a node of this cluster would not understand `command`.

    For the leader, before it proposes: in the log such a command would stop older nodes.
    """
    needed = schema_of(command)
    if needed > state.schema:
        lag = explain_lag(state, needed) or "wait until the leader has raised it"
        raise NotAvailableError(
            f"this needs schema {needed} and the cluster runs schema {state.schema} until every node knows it; {lag}"
        )
