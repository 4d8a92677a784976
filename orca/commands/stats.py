"""`orca stats`: what copies use, now and over time."""

import enum
from collections.abc import Sequence
from typing import Final

from orca.client.reads import NodeReads, Query
from orca.commands.names import OneCopy, resolve_target
from orca.errors import InvalidRequestError
from orca.model.series import SeriesReply
from orca.model.view import StatsReply

POINTS: Final = 20
"""As many as a line has room for."""
SINCE_S_MAX: Final = 7 * 86_400


class SeriesKind(enum.Enum):
    """What figures are of, as `GET /v1/series` has it."""

    COPIES = "copies"
    SERVICES = "services"
    NODES = "nodes"


_FIGURES: Final = {
    SeriesKind.COPIES: ("cpu_milli", "memory_bytes"),
    SeriesKind.SERVICES: ("answers_per_s", "error_share", "latency_p95_s"),
    SeriesKind.NODES: ("node_cpu_share", "node_memory_share", "disk_free_share"),
}


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


async def series_since(client: NodeReads, names: Sequence[str], since_s: float, kind: SeriesKind) -> SeriesReply:
    """Figures of the named services or copies (none named: all), or of nodes, from `since_s` ago on.

    Raises NotFoundError and AmbiguousNameError for names, InvalidRequestError for a time that is not kept.
    """
    if not 1 <= since_s <= SINCE_S_MAX:
        raise InvalidRequestError(f"{since_s:g} s ago is out of range; 1s to 7d is kept")
    query: Query = (
        ("since_s", round(since_s)),
        ("points", POINTS),
        ("of", kind.value),
        *(("figure", one) for one in _FIGURES[kind]),
    )
    reply = await client.series(query)
    if not names:
        return reply
    services = (await client.services()).services
    targets = [resolve_target(name, services) for name in names]
    copies = {target.copy.id for target in targets if isinstance(target, OneCopy)}
    whole = {target.service.id for target in targets if not isinstance(target, OneCopy)}
    chosen = tuple(one for one in reply.series if one.service in whole or one.allocation in copies)
    return SeriesReply(observation=reply.observation, step_s=reply.step_s, series=chosen, silent=reply.silent)
