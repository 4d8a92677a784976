"""Deploy locks as the API shows them."""

import msgspec

from orca.model.holding import LockView
from orca.model.ids import ProjectName, RequestId
from orca.model.view import Observation


class LocksReply(msgspec.Struct, frozen=True, kw_only=True):
    """Locks that are held; of a change those that were acquired or released."""

    observation: Observation
    locks: tuple[LockView, ...] = ()


class LockRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lock `projects`, all or none: why, and after how long that ends by itself (None: never)."""

    projects: tuple[ProjectName, ...]
    note: str = ""
    ttl_s: float | None = None
    request_id: RequestId | None = None
