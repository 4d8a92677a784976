"""The process of a node: from its settings to the signal that ends it."""

import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import structlog
import trio

from node.addresses import with_addresses
from node.agent import Agent
from node.logging import configure_logging
from node.sources import SystemClock, SystemIds
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.log_store import FileLogStore
from node.trust.parts import StartedTrust
from orca.client.discover import default_data_dir
from orca.config import NodeConfig
from orca.model.join_token import JoinOptions
from orca.model.view import NodeView

_log = structlog.get_logger("orca.node")
_ServeNode = Callable[..., Awaitable[None]]


def run_node(
    config: NodeConfig, announce: Callable[[NodeView], None] = lambda _: None, join: JoinOptions | None = None
) -> None:
    """Run a node in this process until SIGTERM or Ctrl-C; `announce` gets its description once it answers.

    With `join` it becomes a node of that cluster first. Raises the errors of `orca.errors` that keep it from
    starting: a locked or damaged data directory, a port that is taken, a join that was refused.
    """
    assert __debug__, "a node does not run under python -O: its asserts are what stops it when it is wrong"
    configure_logging(config.log_format)
    # What it has in memory are the keys of the cluster: a crash leaves no image of that on disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    trio.run(_run_until_told, partial(serve_node, config, join=join), announce)


async def join_node(config: NodeConfig, join: JoinOptions) -> None:
    """Make the data directory of `config` that of a node of the cluster, and run nothing."""
    from node.trust.entering import enter_cluster

    configure_logging(config.log_format)
    with (
        DataDirectory.open(data_dir_of(config)) as directory,
        Environment.open(directory, map_bytes_max=config.store.map_bytes_max) as environment,
    ):
        name = config.name or socket.gethostname()
        await enter_cluster(config, join, environment, SystemClock(), SystemIds(), name)


async def _run_until_told(serve: _ServeNode, announce: Callable[[NodeView], None]) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            nursery.start_soon(_serve, serve, nursery.cancel_scope, announce)
            async for number in signals:
                _log.info("stopping; what runs in containers goes on", signal=signal.Signals(number).name)
                break
            nursery.cancel_scope.cancel()


async def _serve(serve: _ServeNode, scope: trio.CancelScope, announce: Callable[[NodeView], None]) -> None:
    try:
        async with trio.open_nursery() as nursery:
            announce(await nursery.start(serve))
    finally:
        scope.cancel()


def data_dir_of(config: NodeConfig) -> Path:
    """Where the state of a node with `config` lives."""
    return Path(config.data_dir).absolute() if config.data_dir else default_data_dir(os.environ)


async def serve_node(
    config: NodeConfig,
    *,
    join: JoinOptions | None = None,
    task_status: trio.TaskStatus[NodeView] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Be a node until cancelled; `started` gives its own description once it answers. With `join`, join first."""
    with (
        DataDirectory.open(data_dir_of(config)) as directory,
        Environment.open(directory, map_bytes_max=config.store.map_bytes_max) as environment,
    ):
        clock, ids = SystemClock(), SystemIds()
        name = config.name or socket.gethostname()
        if join is not None:
            from node.trust.entering import enter_cluster

            await enter_cluster(config, join, environment, clock, ids, name)
        config = with_addresses(config)
        started = StartedTrust(config, environment, clock, ids, name)
        with FileLogStore.open(environment) as log:
            await Agent(config, directory, log, started).run(task_status)
