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

    from orca.cli.program import finished
    from orca.client import discover_node, find_credentials, plain_reads
    from orca.commands.names import current_copies, slot_name
    from orca.errors import OrcaError
    from orca.model.ids import display_name

    node = ctx.params.get("node") or ctx.find_root().params.get("node")
    try:
        reads = plain_reads(
            discover_node(node, os.environ), timeout_s=ANSWER_S_MAX, credentials=find_credentials(os.environ)
        )
        services = finished(reads.services()).services
    except OrcaError:
        return []  # no node, no names: a shell must not show an error while somebody types
    names = [display_name(service.id) for service in services]
    if with_copies:
        names += [slot_name(copy) for service in services for copy in current_copies(service)]
    return sorted(names)
