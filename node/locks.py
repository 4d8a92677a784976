"""Deploy locks as people ask for them: the door between the API and the log."""

from typing import Final, Protocol

from consensus.state.applying.locks import held_lock
from consensus.state.cluster import ClusterState, Outcome
from consensus.state.commands import Command
from consensus.state.commands.locks import AcquireLock, ReleaseLock
from consensus.state.records import LockRecord
from node import changes
from node.upkeep import Observer
from orca.errors import InvalidRequestError
from orca.model.holding import LockView
from orca.model.ids import ProjectName, RequestId
from orca.model.lock_view import LockRequest, LocksReply
from orca.model.trust import Author
from orca.model.units import WallMs
from orca.sources import Clock, IdSource

TTL_S_MAX: Final = 30 * 86_400.0


class Log(Protocol):
    """What of a replica is needed here."""

    @property
    def state(self) -> ClusterState:
        """The applied state."""
        ...

    async def propose(self, command: Command) -> Outcome:
        """Have it committed and applied."""
        ...


class Locks:
    """Acquires, releases and lists deploy locks."""

    def __init__(self, replica: Log, clock: Clock, ids: IdSource, observer: Observer) -> None:
        self._replica = replica
        self._clock = clock
        self._ids = ids
        self._observer = observer

    def list(self) -> LocksReply:
        """Those that are held, by project."""
        state, now_ms = self._replica.state, self._clock.wall()
        found = (held_lock(state, project, now_ms) for project in sorted(state.locks))
        return LocksReply(
            observation=self._observer.observation(), locks=tuple(_view(one) for one in found if one is not None)
        )

    async def acquire(self, request: LockRequest, *, by: Author) -> LocksReply:
        """From now on only deploys that name the lock change its projects. Raises ConflictError while one is held."""
        ttl_s, now_ms = request.ttl_s, self._clock.wall()
        if ttl_s is not None and not 0 < ttl_s <= TTL_S_MAX:
            raise InvalidRequestError(f"a lock of {ttl_s:g} s is out of range; above 0 and at most {TTL_S_MAX:g} s")
        command = AcquireLock(
            request_id=RequestId(self._ids.fresh()) if request.request_id is None else request.request_id,
            at_ms=now_ms,
            actor=by.actor,
            origin=by.origin,
            projects=tuple(sorted(set(request.projects))),
            note=request.note,
            expires_at_ms=None if ttl_s is None else WallMs(now_ms + max(1, round(ttl_s * 1000))),
        )
        changes.raise_refusal(await self._replica.propose(command))
        locks = tuple(
            LockView(
                id=command.request_id,
                project=project,
                holder=by.actor,
                origin=by.origin,
                since_ms=now_ms,
                note=request.note,
                expires_at_ms=command.expires_at_ms,
            )
            for project in command.projects
        )
        return LocksReply(observation=self._observer.observation(), locks=locks)

    async def release(self, project: ProjectName, lock: str, request_id: RequestId | None, *, by: Author) -> LocksReply:
        """Let everybody deploy to `project` again. Raises NotFoundError; ConflictError when `lock` is another one."""
        held = self._replica.state.locks.get(project)
        command = ReleaseLock(
            request_id=RequestId(self._ids.fresh()) if request_id is None else request_id,
            at_ms=self._clock.wall(),
            actor=by.actor,
            origin=by.origin,
            project=project,
            lock=lock,
        )
        changes.raise_refusal(await self._replica.propose(command))
        # A node that is behind may not have seen whose it was.
        return LocksReply(observation=self._observer.observation(), locks=() if held is None else (_view(held),))


def _view(lock: LockRecord) -> LockView:
    return LockView(
        id=lock.id,
        project=lock.project,
        holder=lock.holder,
        since_ms=lock.since_ms,
        origin=lock.origin,
        note=lock.note,
        expires_at_ms=lock.expires_at_ms,
    )
