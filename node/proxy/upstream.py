"""Connections to targets: made, kept for the next request, thrown away."""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import trio

from node.proxy.faults import UpstreamLostError
from node.proxy.limits import ProxyLimits
from node.proxy.reactor import BROKEN, READABLE, Reactor
from node.proxy.routes import Target
from node.proxy.wires import Wire, bare_socket
from orca.model.ids import AllocationId
from orca.model.units import Instant
from orca.sources import Clock

_Key: TypeAlias = tuple[AllocationId, str, int]


def _key(target: Target) -> _Key:
    # An address alone is not enough: the next allocation may be given the same port.
    return (target.allocation, target.host, target.host_port)


Dial: TypeAlias = Callable[[Target], Awaitable[trio.SocketStream]]
"""Connects to a target; raises OSError."""


async def _dial_here(target: Target) -> trio.SocketStream:
    if target.node is not None:
        raise OSError(f"the target is on {target.node}, and there is no way to other nodes")
    return await trio.open_tcp_stream(target.host, target.host_port)


def dial_through(remote: Dial) -> Dial:
    """Targets of this node directly, all others by `remote`."""

    async def dial(target: Target) -> trio.SocketStream:
        return await (_dial_here(target) if target.node is None else remote(target))

    return dial


class UpstreamPool:
    """Idle connections, newest first, bounded for each target and closed when they age."""

    def __init__(self, clock: Clock, limits: ProxyLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._idle: dict[_Key, deque[tuple[Instant, Wire]]] = {}
        self.reactor: Reactor | None = None
        """Watches the kept connections, once there is one."""
        self.dial: Dial = _dial_here
        """How a target is reached; set by whoever knows a way to other nodes."""

    def idle_count(self) -> int:
        """Connections kept at the moment."""
        return sum(len(kept) for kept in self._idle.values())

    def take(self, target: Target) -> Wire | None:
        """A kept connection to `target` that is open and silent; None when there is none."""
        while (wire := self.take_watched(target)) is not None:
            self.unwatch(wire)
            if wire.is_quiet():
                return wire
            wire.close()
        return None

    def take_watched(self, target: Target) -> Wire | None:
        """A kept connection to `target` for whoever uses the reactor: it stays watched, and was open a moment ago."""
        key = _key(target)
        kept = self._idle.get(key)
        oldest = self._clock.now() - self._limits.upstream_idle_timeout_s
        while kept:
            since, wire = kept.pop()
            if since > oldest:
                wire.has_heard = False
                return wire
            self.discard(wire)
        self._idle.pop(key, None)
        return None

    def unwatch(self, wire: Wire) -> None:
        """Take `wire` from the reactor, so that a task can wait for it."""
        wire.user = None
        if self.reactor is not None:
            self.reactor.forget(wire.socket.fileno())

    def discard(self, wire: Wire) -> None:
        """Close `wire`, which may be watched."""
        self.unwatch(wire)
        wire.close()

    async def connect(self, target: Target) -> Wire:
        """A new connection to `target`.

        Raises UpstreamLostError (`is_unsent`) when it refuses or does not answer in time.
        """
        with trio.move_on_after(self._limits.connect_timeout_s):
            try:
                stream = await self.dial(target)
            except OSError as error:
                raise UpstreamLostError("the target refused the connection", is_unsent=True) from error
            return Wire(bare_socket(stream), UpstreamLostError, self._limits.stall_timeout_s)
        raise UpstreamLostError("the target did not accept a connection in time", is_unsent=True)

    def put(self, target: Target, wire: Wire) -> None:
        """Keep `wire` for the next request, or close it when there are enough."""
        kept = self._idle.setdefault(_key(target), deque())
        if len(kept) >= self._limits.upstream_idle_max:
            self.discard(wire)
            return
        kept.append((self._clock.now(), wire))
        if self.reactor is not None:
            is_new = wire.user is None
            wire.user = partial(self._heard_while_idle, target, wire)
            if is_new:
                self.reactor.watch(wire.socket.fileno(), partial(_tell_user, wire))

    def _heard_while_idle(self, target: Target, wire: Wire, mask: int) -> None:
        """A kept connection that ends, or says something that nobody asked for, is of no use."""
        if not mask & (READABLE | BROKEN):
            return
        kept = self._idle.get(_key(target))
        for entry in kept or ():
            if entry[1] is wire and kept is not None:
                kept.remove(entry)
                self.discard(wire)
                return

    @property
    def has_kept(self) -> bool:
        """A connection is kept."""
        return any(self._idle.values())

    def expire(self) -> None:
        """Close what was idle for too long."""
        oldest = self._clock.now() - self._limits.upstream_idle_timeout_s
        for key, kept in list(self._idle.items()):
            while kept and kept[0][0] <= oldest:
                self.discard(kept.popleft()[1])
            if not kept:
                del self._idle[key]

    def keep_only(self, targets: tuple[Target, ...]) -> None:
        """Close the idle connections of every target that is not among `targets`."""
        wanted = {_key(target) for target in targets}
        for key in [key for key in self._idle if key not in wanted]:
            for _, wire in self._idle.pop(key):
                self.discard(wire)

    def close(self) -> None:
        """Close all of them."""
        self.keep_only(())


def _tell_user(wire: Wire, mask: int) -> None:
    if wire.user is not None:
        wire.user(mask)
