"""What the RPC server serves from: a membership, and what Serf's tools want to know of the agent itself."""

import enum
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from gossip.membership import Membership
from gossip.messages import CoordinatePayload


class LogLevel(enum.IntEnum):
    """Serf's log levels, the quietest last."""

    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERR = 4


LOG_LEVELS: Final = tuple(level.name for level in LogLevel)


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log, without its end; `text` is shown as it is, time and level included."""

    level: LogLevel
    text: str


class RpcBackend(Membership, Protocol):
    """The node behind the RPC port."""

    def subscribe_log(self, sink: Callable[[LogLine], None]) -> Callable[[], None]:
        """Give what is logged from now on to `sink`; the function returned ends that."""
        ...

    async def stats(self) -> Mapping[str, Mapping[str, str]]:
        """What `serf info` shows, by section; `agent` has at least `name`, and `tags` our tags."""
        ...

    async def coordinate(self, node: str) -> CoordinatePayload | None:
        """Where `node` is in Vivaldi's space; None when it is not known."""
        ...
