"""Names of services, copies and nodes that a shell completes, asked of the node while Tab is pressed.

`orca shell` knows them already, and hands them in with the context.
"""

from typing import TYPE_CHECKING, Final

import asyncclick as click

if TYPE_CHECKING:
    from orca.client import NodeReads
    from orca.repl.known import Known

ANSWER_S_MAX: Final = 1.0


def complete_service(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of services that begin with what is written."""
    return [name for name in _names(ctx, with_copies=False) if name.startswith(incomplete)]


def complete_target(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of services and of their copies that begin with what is written."""
    return [name for name in _names(ctx, with_copies=True) if name.startswith(incomplete)]


def complete_node(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """`rm`, and after it the names of nodes that begin with what is written."""
    if not ctx.params.get("words"):
        return [word for word in ("rm",) if word.startswith(incomplete)]
    return complete_member(ctx, _, incomplete)


def complete_member(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of nodes that begin with what is written."""
    known: Known | None = ctx.find_root().obj
    if known is not None:
        return [name for name in known.nodes if name.startswith(incomplete)]
    from orca.cli.program import finished
    from orca.errors import OrcaError

    try:
        members = finished(_reads(ctx).nodes()).members
    except OrcaError:
        return []
    return sorted(one.name for one in members if one.name.startswith(incomplete))


def complete_token(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """What to do with tokens, and after `revoke` the ids of those that there are."""
    words = tuple(ctx.params.get("words") or ())
    if not words:
        return [word for word in ("create", "ls", "revoke") if word.startswith(incomplete)]
    if words[0] != "revoke" or ctx.find_root().obj is not None:
        return []
    from orca.cli.program import finished
    from orca.errors import OrcaError

    try:
        tokens = finished(_reads(ctx).tokens()).tokens
    except OrcaError:
        return []
    return sorted(str(one.id) for one in tokens if one.id.startswith(incomplete))


def _reads(ctx: click.Context) -> "NodeReads":
    import os

    from orca.client import discover_node, find_credentials, plain_reads

    node = ctx.params.get("node") or ctx.find_root().params.get("node")
    credentials = find_credentials(os.environ)
    return plain_reads(discover_node(node, os.environ), timeout_s=ANSWER_S_MAX, credentials=credentials)


def _names(ctx: click.Context, *, with_copies: bool) -> list[str]:
    known: Known | None = ctx.find_root().obj
    if known is not None:
        return sorted((*known.services, *known.copies) if with_copies else known.services)
    from orca.cli.program import finished
    from orca.commands.names import current_copies, slot_name
    from orca.errors import OrcaError
    from orca.model.ids import display_name

    try:
        services = finished(_reads(ctx).services()).services
    except OrcaError:
        return []  # no node, no names: a shell must not show an error while somebody types
    names = [display_name(service.id) for service in services]
    if with_copies:
        names += [slot_name(copy) for service in services for copy in current_copies(service)]
    return sorted(names)
