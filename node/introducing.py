"""What a node notes about itself in the state: its name, its release, and where it is reached."""

from collections.abc import Callable
from typing import Final

import structlog
import trio

from consensus.driver import ReplicaDriver
from consensus.state.commands import AdmitNode
from orca.errors import OrcaError

_log = structlog.get_logger("orca.node")
RETRY_S: Final = 1.0


async def introduce(replica: ReplicaDriver, introduction: Callable[[], AdmitNode]) -> None:
    """Have what is new about this node noted; tried until the group has taken it.

    A node that the state does not have waits: nobody lets himself in.
    """
    while True:
        wanted = introduction()
        known = replica.state.nodes.get(wanted.node)
        told = (wanted.name, wanted.schema, wanted.release, wanted.addresses)
        if known is not None and (known.name, known.schema, known.release, known.addresses) == told:
            return
        try:
            if known is not None:
                await replica.propose(wanted)
        except OrcaError as error:
            _log.debug("what is new about this node is not noted yet", reason=error.message)
        await trio.sleep(RETRY_S)
