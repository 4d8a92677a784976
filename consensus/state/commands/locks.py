"""Commands about deploy locks."""

from typing import TypeAlias

from consensus.state.commands.base import Change
from orca.model.ids import ProjectName
from orca.model.units import WallMs


class AcquireLock(Change, frozen=True, kw_only=True, tag="acquire_lock"):
    """From now on only deploys that name this lock change `projects`: all or none are locked.

    Its id is this command's `request_id`.
    """

    projects: tuple[ProjectName, ...]
    note: str = ""
    expires_at_ms: WallMs | None = None


class ReleaseLock(Change, frozen=True, kw_only=True, tag="release_lock"):
    """Everybody may deploy again. With `lock` only if it is still that one which is held."""

    project: ProjectName
    lock: str = ""


LockCommand: TypeAlias = AcquireLock | ReleaseLock
