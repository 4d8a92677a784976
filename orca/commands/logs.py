"""`orca logs`: the output of a service or of one copy."""

from collections.abc import Callable

from orca.client import NodeClient
from orca.commands.names import OneCopy, resolve_target
from orca.model.units import WallMs
from orca.model.view import LogRecord


async def read_logs(
    client: NodeClient,
    name: str,
    show: Callable[[LogRecord], None],
    *,
    follow: bool = False,
    tail: int | None = None,
    since_ms: WallMs | None = None,
) -> None:
    """Pass the output of `name` to `show`, merged by time; with `follow` until cancelled.

    Raises NotFoundError and AmbiguousNameError for the name.
    """
    target = resolve_target(name, (await client.services()).services)
    is_copy = isinstance(target, OneCopy)
    async with client.logs(
        service=None if is_copy else target.service.id,
        allocation=target.copy.id if isinstance(target, OneCopy) else None,
        follow=follow,
        tail=tail,
        since_ms=since_ms,
    ) as records:
        async for record in records:
            show(record)
