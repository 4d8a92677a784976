"""`orca demo`: a node, a Wasm service, a container, a death, a recovery; then nothing is left.

Every step uses what a user would: the node is `orca up` in a child process, services
are deployed from files, requests go through the proxy. What dies is what would die:
the container by `docker kill`, or, without Docker, the node itself by SIGKILL.
"""

from typing import TYPE_CHECKING, Final

import asyncclick as click

from orca.cli.program import Session, option, tell_error, verb

if TYPE_CHECKING:
    from orca.cli.demo_story import Demo

NODES_MAX: Final = 9
CLEAN_S_MAX: Final = 90.0


@verb(
    "demo",
    option("--keep", "is_kept", is_flag=True, help="Leave the node running and say how to reach it."),
    option("--port", type=click.IntRange(1, 65535), metavar="N", help="Port of the proxy [a free one]."),
    option(
        "--nodes",
        type=click.IntRange(1, NODES_MAX),
        default=1,
        metavar="N",
        help=f"So many nodes, WebAssembly only, and one dies under load [1, at most {NODES_MAX}].",
    ),
    option("--break", "is_broken", is_flag=True, help="Deploy what cannot work, and show the alert."),
    option("--tls", "in_tls", is_flag=True, help="Serve HTTPS by the cluster's own CA, and ask in it."),
    more="Everything is on the loopback address and in a temporary directory. Works without Docker, too. With --json: "
    "answers, healed_s, status, and with --keep the node (api, process, directory, end: the command that ends it).",
)
async def demo_command(
    session: Session, is_kept: bool, port: int | None, nodes: int, is_broken: bool, in_tls: bool
) -> int:
    """Show it."""
    from orca.cli.demo_node import DemoNode
    from orca.cli.demo_story import Demo
    from orca.errors import InvalidRequestError

    if in_tls:
        from orca.cli.demo_tls import TlsDemo

        if nodes > 1 or is_broken or is_kept:
            raise InvalidRequestError("--tls goes with none of --nodes, --break and --keep")
        return await _show(session, TlsDemo(session, DemoNode(port), is_kept=False))
    if is_broken:
        from orca.cli.demo_break import BreakingDemo

        if nodes > 1 or is_kept:
            raise InvalidRequestError("--break goes with neither --nodes nor --keep")
        return await _show(session, BreakingDemo(session, DemoNode(port), is_kept=False))
    if nodes > 1:
        return await _show_cluster(session, nodes, port, is_kept=is_kept)
    return await _show(session, Demo(session, DemoNode(port), is_kept=is_kept))


async def _show(session: Session, demo: "Demo") -> int:
    """One node's story, and its end."""
    import trio

    from orca.errors import OrcaError

    is_done = False
    try:
        await demo.run()
        is_done = True
    except OrcaError as error:
        tell_error(error, session.console)
        for line in demo.node.last_log_lines():
            session.console.problem(f"  node | {line}")
    finally:
        # Ctrl-C ends here too: what was made must not outlive the demonstration.
        with trio.CancelScope(shield=True), trio.move_on_after(CLEAN_S_MAX):
            await (demo.keep() if demo.is_kept and is_done else demo.clean())
    return 0 if is_done else 1


async def _show_cluster(session: Session, count: int, port: int | None, *, is_kept: bool) -> int:
    """Several nodes, one of which dies."""
    import trio

    from orca.cli import render
    from orca.cli.demo_cluster import DemoCluster
    from orca.cli.demo_story import teller
    from orca.cli.members import show_nodes
    from orca.errors import OrcaError

    console = session.console
    demo = DemoCluster(count, port, teller(console))
    is_done = False
    try:
        status, nodes = await demo.run()
        is_done = True
        if not console.as_json and not console.is_quiet:
            console.line("")
            render.status(status, console)
            console.line("")
            show_nodes(nodes, console)
    except OrcaError as error:
        tell_error(error, console)
        for node in demo.nodes:
            for line in node.last_log_lines():
                console.problem(f"  {node.name} | {line}")
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(CLEAN_S_MAX):
            if is_kept and is_done:
                demo.keep()
            else:
                await demo.clean()
    if is_done and console.as_json:
        console.data({**demo.result, "status": status})
    return 0 if is_done else 1
