"""Names of services and copies that a shell completes, asked of the node while Tab is pressed."""

from typing import Final

import asyncclick as click

ANSWER_S_MAX: Final = 1.0


def complete_service(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of services that begin with what is written."""
    return [name for name in _names(ctx, with_copies=False) if name.startswith(incomplete)]


def complete_target(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of services and of their copies that begin with what is written."""
    return [name for name in _names(ctx, with_copies=True) if name.startswith(incomplete)]


def _names(ctx: click.Context, *, with_copies: bool) -> list[str]:
    import os

    import trio

    from orca.client import discover_node, open_client
    from orca.commands.names import current_copies, slot_name
    from orca.errors import OrcaError
    from orca.model.ids import display_name

    async def ask() -> list[str]:
        node = ctx.params.get("node") or ctx.find_root().params.get("node")
        with trio.move_on_after(ANSWER_S_MAX):
            async with open_client(discover_node(node, os.environ), timeout_s=ANSWER_S_MAX) as client:
                services = (await client.services()).services
            names = [display_name(service.id) for service in services]
            if with_copies:
                names += [slot_name(copy) for service in services for copy in current_copies(service)]
            return sorted(names)
        return []

    try:
        return trio.run(ask)
    except OrcaError:
        return []  # no node, no names: a shell must not show an error while somebody types
