"""Calls of the `docker` SDK in worker threads: bounded, in turn, with deadlines."""

import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import outcome
import trio

from node.runtime.docker.refusals import EngineRefusedError
from orca.errors import RuntimeUnavailableError

if TYPE_CHECKING:
    import docker

T = TypeVar("T")

QUERY_TIMEOUT_S: Final = 15.0
CHANGE_TIMEOUT_S: Final = 120.0
"""One create or start on a computer that starts fifty at once."""

QUERIES_MAX: Final = 8
STOPS_MAX: Final = 32
"""A stop mostly waits for the workload, so many may wait at once."""


@dataclass
class _Lanes:
    """The limiters in use; replaced when the engine hung, with whatever hangs in them."""

    query: trio.CapacityLimiter
    change: trio.CapacityLimiter
    end: trio.CapacityLimiter


@dataclass
class _Turn:
    """Who may change one thing of the engine."""

    free: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(1))
    users: int = 0


@dataclass(eq=False)
class _Job(Generic[T]):
    """A change: cancelled with its caller while it is queued, and brought to its end once it began."""

    name: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    is_queued: bool = True
    result: outcome.Outcome[T] | None = None


class Calls:
    """A pool of SDK clients, one a thread at a time: a `requests` session is not thread-safe."""

    def __init__(self, url: str, changes_max: int) -> None:
        self._url = url
        self._changes_max = changes_max
        self._lanes = self._fresh_lanes()
        self._turns: dict[str, _Turn] = {}
        self._waiting: set[trio.CancelScope] = set()
        self._nursery: trio.Nursery | None = None
        self._lock = threading.Lock()
        self._idle: list[docker.APIClient] = []
        self._generation = 0
        self.api_version = ""
        self.down_reason = "the runtime has not been started"
        self.counts: Counter[str] = Counter()
        """Calls made so far by name, for measuring."""

    def _fresh_lanes(self) -> _Lanes:
        return _Lanes(
            query=trio.CapacityLimiter(QUERIES_MAX),
            change=trio.CapacityLimiter(self._changes_max),
            end=trio.CapacityLimiter(STOPS_MAX),
        )

    def open(self, nursery: trio.Nursery, api_version: str) -> None:
        """The engine answers: calls go through, changes run in `nursery`."""
        self._nursery = nursery
        self.api_version = api_version
        self.down_reason = ""

    def close(self, reason: str) -> None:
        """The engine does not answer: all waiting calls fail now, and new ones at once."""
        self.down_reason = reason
        self._lanes = self._fresh_lanes()
        with self._lock:
            self._generation += 1
            stale, self._idle = self._idle, []
        for client in stale:
            client.close()
        for scope in tuple(self._waiting):
            scope.cancel()

    def require_open(self) -> None:
        """Raise RuntimeUnavailableError while the engine does not answer."""
        if self.down_reason:
            raise self._unavailable()

    def _unavailable(self) -> RuntimeUnavailableError:
        return RuntimeUnavailableError(f"Docker is not available: {self.down_reason or 'it was lost and came back'}")

    @asynccontextmanager
    async def interruptible(self) -> AsyncIterator[None]:
        """Waiting inside the block ends with RuntimeUnavailableError when the engine stops answering."""
        self.require_open()
        scope = trio.CancelScope()
        self._waiting.add(scope)
        try:
            with scope:
                yield
        finally:
            self._waiting.discard(scope)
        if scope.cancelled_caught:
            raise self._unavailable()

    async def query(self, name: str, call: "Callable[[docker.APIClient], T]") -> T:
        """The result of a call that changes nothing."""
        self.counts[name] += 1
        found: list[T] = []
        async with self.interruptible():
            work = partial(self._work, call, QUERY_TIMEOUT_S, self._generation)
            found.append(await trio.to_thread.run_sync(work, limiter=self._lanes.query, abandon_on_cancel=True))
        return found[0]

    async def change(self, name: str, turn: str, call: "Callable[[docker.APIClient], T]") -> T:
        """The result of a call that changes what `turn` names; one at a time for each name."""
        return await self._in_turn(_Job(name=name), turn, call, self._lanes.change)

    async def end(self, name: str, turn: str, call: "Callable[[docker.APIClient], T]") -> T:
        """Like `change`, for stops and removals, which do not queue behind starts."""
        return await self._in_turn(_Job(name=name), turn, call, self._lanes.end)

    async def _in_turn(
        self, job: _Job[T], turn: str, call: "Callable[[docker.APIClient], T]", lane: trio.CapacityLimiter
    ) -> T:
        self.require_open()
        assert self._nursery is not None, "calls were opened without a nursery"
        self.counts[job.name] += 1
        work = partial(self._work, call, CHANGE_TIMEOUT_S, self._generation)
        self._nursery.start_soon(self._perform, job, turn, work, lane)
        try:
            async with self.interruptible():
                await job.done.wait()
        finally:
            if job.is_queued:
                job.scope.cancel()
        if job.result is None:
            raise self._unavailable()
        return job.result.unwrap()

    async def _perform(self, job: _Job[T], turn_name: str, work: Callable[[], T], lane: trio.CapacityLimiter) -> None:
        turn = self._turns.setdefault(turn_name, _Turn())
        turn.users += 1
        try:
            with job.scope:
                async with turn.free, _held(lane, job):
                    # From here on the caller cannot cancel it: its thread could not be stopped anyway, and the
                    # turn must not be given to the next change while it runs.
                    job.is_queued = False
                    job.result = await trio.to_thread.run_sync(
                        partial(outcome.capture, work), limiter=trio.CapacityLimiter(1), abandon_on_cancel=True
                    )
        finally:
            job.is_queued = False
            job.done.set()
            turn.users -= 1
            if turn.users == 0:
                self._turns.pop(turn_name, None)

    def _work(self, call: "Callable[[docker.APIClient], T]", timeout_s: float, generation: int) -> T:
        """One call, in a worker thread; raises EngineRefusedError or RuntimeUnavailableError."""
        import docker.errors
        import requests.exceptions

        client = self._take_client()
        is_sound = False
        try:
            client.timeout = timeout_s  # type: ignore[assignment]
            result = call(client)
            is_sound = True
            return result
        except docker.errors.APIError as error:
            is_sound = True
            raise EngineRefusedError(error.status_code or 500, _words(error.explanation) or str(error)) from error
        except (requests.exceptions.RequestException, docker.errors.DockerException, OSError) as error:
            raise RuntimeUnavailableError(f"Docker at {self._url} does not answer: {error}") from error
        finally:
            with self._lock:
                is_kept = is_sound and generation == self._generation
                if is_kept:
                    self._idle.append(client)
            if not is_kept:
                client.close()

    def _take_client(self) -> "docker.APIClient":
        import docker

        with self._lock:
            if self._idle:
                return self._idle.pop()
        return docker.APIClient(base_url=self._url, version=self.api_version, timeout=int(QUERY_TIMEOUT_S))


@asynccontextmanager
async def _held(lane: trio.CapacityLimiter, holder: object) -> AsyncIterator[None]:
    await lane.acquire_on_behalf_of(holder)
    try:
        yield
    finally:
        lane.release_on_behalf_of(holder)


def _words(explanation: Any) -> str:
    if isinstance(explanation, bytes):
        return explanation.decode(errors="replace")
    return str(explanation or "")
