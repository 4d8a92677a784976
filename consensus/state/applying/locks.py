"""Deploy locks: while one is held, nobody else deploys to its project.

A lock is held by whoever knows its id, not by an account: two people at one computer are one account. It holds back
deploys and nothing else. What helps in an emergency (roll back, stop, scale, pause) stays open to everybody, and so
does the release: the audit says who did it. A lock may have an end of its own, for holders that die.
"""

from collections.abc import Iterable
from typing import Final, assert_never

from consensus.state.applying.results import (
    NOTHING,
    TEXT_MAX,
    Done,
    Refusal,
    check_room,
    check_text,
    check_time,
    touch,
)
from consensus.state.cluster import ClusterState
from consensus.state.commands.locks import AcquireLock, LockCommand, ReleaseLock
from consensus.state.records import LockRecord
from orca.model.ids import ProjectName, StateRevision
from orca.model.units import WallMs, format_duration

LOCKS_MAX: Final = 1_000


def apply_lock(state: ClusterState, at: StateRevision, command: LockCommand) -> Done:
    """Carry out a command about deploy locks."""
    match command:
        case AcquireLock():
            _acquire(state, command)
        case ReleaseLock():
            _release(state, command)
        case _:
            assert_never(command)
    touch(state, at)
    return NOTHING


def held_lock(state: ClusterState, project: ProjectName, now_ms: WallMs) -> LockRecord | None:
    """The lock that holds back deploys to `project` now."""
    lock = state.locks.get(project)
    return None if lock is None or (lock.expires_at_ms is not None and lock.expires_at_ms <= now_ms) else lock


def lock_refusal(state: ClusterState, projects: Iterable[ProjectName], lock: str, now_ms: WallMs) -> str:
    """Why a deploy to `projects` under the lock `lock` (its id, or none) must wait; empty when it need not."""
    own = False
    for project in projects:
        held = held_lock(state, project, now_ms)
        if held is not None and held.id != lock:
            return _who(held, now_ms)
        own |= held is not None
    # Who lost a lock that he relied on must not go on as if nobody else had been there meanwhile.
    return "" if own or not lock else f"the lock {lock[:80]!r} is not held any more; acquire another"


def check_unlocked(state: ClusterState, projects: Iterable[ProjectName], lock: str, now_ms: WallMs) -> None:
    """Refuse a deploy to `projects` that somebody else has locked."""
    refused = lock_refusal(state, projects, lock, now_ms)
    if refused:
        raise Refusal("conflict", refused)


def _who(held: LockRecord, now_ms: WallMs) -> str:
    why = f" ({held.note})" if held.note else ""
    since = format_duration(max(0, now_ms - held.since_ms) / 1000)
    return (
        f"deploys to project {held.project} are locked by {held.holder} for {since}{why}; wait, or release it with "
        f"`orca lock release {held.project}`"
    )


def _acquire(state: ClusterState, command: AcquireLock) -> None:
    if not command.projects:
        raise Refusal("invalid_request", "the request names no project; name those to lock")
    check_text("request_id", command.request_id)
    check_text("the note", command.note, length_max=TEXT_MAX, may_be_empty=True)
    if command.expires_at_ms is not None:
        check_time("expires_at_ms", command.expires_at_ms)
        if command.expires_at_ms <= command.at_ms:
            raise Refusal("invalid_request", "the lock would end before it begins; give it a later end, or none")
    for project in command.projects:
        check_text("the project", project)
    check_unlocked(state, command.projects, "", command.at_ms)
    kept = {name: one for name, one in state.locks.items() if held_lock(state, name, command.at_ms) is not None}
    check_room("deploy locks", len(kept) + len(command.projects) - 1, LOCKS_MAX, "release some")
    for project in command.projects:
        kept[project] = LockRecord(
            id=command.request_id,
            project=project,
            holder=command.actor,
            origin=command.origin,
            since_ms=command.at_ms,
            note=command.note,
            expires_at_ms=command.expires_at_ms,
        )
    state.locks.clear()
    state.locks.update(kept)


def _release(state: ClusterState, command: ReleaseLock) -> None:
    held = state.locks.get(command.project)
    if held is None:
        raise Refusal("not_found", f"no deploy lock is held of project {command.project[:80]!r}")
    if command.lock and held.id != command.lock:
        raise Refusal("conflict", f"another lock is held by now: {_who(held, command.at_ms)}")
    del state.locks[command.project]
