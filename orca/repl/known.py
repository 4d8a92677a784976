"""What the shell knows of the cluster, asked of one node."""

import time

import msgspec

from orca.client import NodeReads
from orca.commands.names import current_copies, slot_name
from orca.errors import OrcaError
from orca.model.ids import display_name
from orca.model.quorum_view import QuorumRole


class Known(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cluster at one moment: names for completion, and what the toolbar shows. `error`: why there is nothing new.

    `apis` says where the nodes that live can be talked to, by their names, as far as they tell.
    """

    at: float = 0.0
    cluster: str = ""
    node: str = ""
    leader: str = ""
    voters: int = 0
    voters_alive: int = 0
    alive: int = 0
    services: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    unwell: int = 0
    apis: dict[str, str] = {}
    error: str = ""


async def ask(reads: NodeReads) -> Known:
    """What the node says now. Raises OrcaError when it does not answer."""
    status = await reads.status()
    quorum = await reads.quorum()
    members = await reads.nodes()
    try:
        secrets = tuple(str(one.id) for one in (await reads.secrets()).secrets)
    except OrcaError:
        secrets = ()  # not everybody may see them
    names = {node.facts.id: node.facts.name for node in status.nodes}
    voters = [one for one in quorum.members if one.role in {QuorumRole.LEADER, QuorumRole.VOTER}]
    return Known(
        at=time.monotonic(),
        cluster=str(status.cluster),
        node=names.get(status.observation.observer, str(status.observation.observer)),
        leader="" if status.leader is None else names.get(status.leader, str(status.leader)),
        voters=len(voters),
        voters_alive=quorum.voters_alive,
        alive=sum(one.state.value == "alive" for one in members.members),
        services=tuple(display_name(one.id) for one in status.services),
        copies=tuple(slot_name(copy) for one in status.services for copy in current_copies(one)),
        nodes=tuple(sorted(one.name for one in members.members)),
        secrets=secrets,
        unwell=sum(one.ready < one.replicas and not one.is_job for one in status.services),
        apis={node.facts.name: node.facts.api or node.api for node in status.nodes if node.facts.api or node.api},
    )
