"""`orca stats`: what copies use."""

from collections.abc import Sequence

from orca.client.reads import NodeReads
from orca.commands.names import OneCopy, resolve_target
from orca.model.view import StatsReply


async def copy_stats(client: NodeReads, names: Sequence[str] = ()) -> StatsReply:
    """What the named services or copies use now (none named: all).

    Raises NotFoundError and AmbiguousNameError for names.
    """
    reply = await client.stats()
    if not names:
        return reply
    services = (await client.services()).services
    targets = [resolve_target(name, services) for name in names]
    copies = {target.copy.id for target in targets if isinstance(target, OneCopy)}
    whole = {target.service.id for target in targets if not isinstance(target, OneCopy)}
    chosen = tuple(stats for stats in reply.stats if stats.service in whole or stats.allocation in copies)
    return StatsReply(observation=reply.observation, stats=chosen)
