"""One connection to the engine's life: its events, and whether it still answers."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import trio

from node.runtime.docker.connection import Engine
from node.runtime.docker.frames import JsonLines
from node.runtime.docker.reading import EngineEvent, Listed, read_event, read_listing
from node.runtime.docker.refusals import EngineRefusedError
from orca.errors import RuntimeUnavailableError

PING_INTERVAL_S: Final = 2.0
PING_TIMEOUT_S: Final = 2.5
"""With the interval 4.5 s: a hung engine is noticed within the 5 s that are promised."""

CONNECT_TIMEOUT_S: Final = 4.5
SYNC_TIMEOUT_S: Final = 30.0
ACTIONS: Final = ("create", "start", "die", "oom", "destroy")


class EngineLostError(Exception):
    """The connection ended; `is_hung` when the engine still accepts but does not answer."""

    def __init__(self, reason: str, *, is_hung: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_hung = is_hung


class EngineWatch:
    """Follows the events of the containers that `labels` select."""

    def __init__(self, engine: Engine, labels: list[str]) -> None:
        self._engine = engine
        self._labels = labels
        self.heard_at = 0.0

    async def list_containers(self) -> tuple[Listed, ...]:
        """All containers that are selected, in whatever state."""
        filters = msgspec.json.encode({"label": self._labels}).decode()
        target = self._engine.target("/containers/json", {"all": "1", "filters": filters})
        return read_listing(await self._engine.get_json(target, timeout_s=SYNC_TIMEOUT_S))

    async def follow(
        self, synced: Callable[[tuple[Listed, ...]], None], handle: Callable[[EngineEvent], Awaitable[None]]
    ) -> None:
        """Give the listing to `synced` and then every event to `handle`, until the engine is lost.

        Raises EngineLostError, and RuntimeUnavailableError when the engine cannot be
        reached at all.
        """
        filters = {"type": ["container"], "event": list(ACTIONS), "label": self._labels}
        target = self._engine.target("/events", {"filters": msgspec.json.encode(filters).decode()})
        reader = JsonLines()
        async with self._engine.exchange("GET", target) as exchange:
            # The stream is open before the list is taken, so nothing can happen between the two unseen.
            synced(await self.list_containers())
            self.heard_at = trio.current_time()
            lost: list[EngineLostError] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ping, lost, nursery.cancel_scope)
                try:
                    while (chunk := await exchange.receive()) is not None:
                        self.heard_at = trio.current_time()
                        for line in reader.feed(chunk):
                            event = read_event(line)
                            if event is not None:
                                await handle(event)
                    lost.append(EngineLostError("it closed its event stream"))
                except RuntimeUnavailableError as error:
                    lost.append(EngineLostError(error.message))
                except ValueError as error:
                    lost.append(EngineLostError(f"its event stream cannot be read: {error}"))
                nursery.cancel_scope.cancel()
            if lost:
                raise lost[0]

    async def _ping(self, lost: list[EngineLostError], scope: trio.CancelScope) -> None:
        while True:
            await trio.sleep_until(self.heard_at + PING_INTERVAL_S)
            asked_at = trio.current_time()
            if asked_at < self.heard_at + PING_INTERVAL_S:
                continue
            try:
                await self.ask(PING_TIMEOUT_S)
            except RuntimeUnavailableError as error:
                # Any answer to anybody proves life: a busy engine may be slow with this one question.
                if self.heard_at < asked_at:
                    lost.append(EngineLostError(error.message, is_hung=True))
                    scope.cancel()
                    return
            else:
                self.heard_at = trio.current_time()

    async def ask(self, timeout_s: float) -> None:
        """Return if the engine answers a ping within `timeout_s`."""
        with trio.move_on_after(timeout_s) as scope:
            try:
                async with self._engine.exchange(
                    "GET", "/_ping", headers=(("connection", "close"),), head_timeout_s=timeout_s
                ) as exchange:
                    await exchange.receive_all()
            except EngineRefusedError:
                return  # It is ill, but it answers: its refusals of real work will say what is wrong.
        if scope.cancelled_caught:
            raise RuntimeUnavailableError(f"it did not answer a ping within {timeout_s:g} s")
