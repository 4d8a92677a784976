"""The key that seals gossip, as nodes give it to each other over the mesh.

A key has a version, which the state knows; who has an older one asks another node for the key. A new version comes
about in two ways:

- A node was removed: it knows the key, so the leader makes one that never travels by gossip. Plain Serf agents do
  not get it either; people give it to them.
- Somebody rotated the key (`orca gossip keys rotate`): all who gossip have it already, agents too, by Serf's own key
  queries. Nodes that were away, and those with an agent beside them, get it from here.

When both happen at once the removal wins, because who was removed could hear the other key come.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog
import trio

from consensus.state.cluster import ClusterState
from node.membership.ring import GossipRing
from node.trust.kept import OwnTrust
from node.trust.messages import GossipKeys
from orca.errors import ConflictError, NotAvailableError, OrcaError

_log = structlog.get_logger("orca.trust")
GOSSIP_KEY_BYTES: Final = 32
USE_AFTER_S: Final = 1.5
"""From when a new gossip key is known until it seals: others ask for it meanwhile."""
DROP_AFTER_S: Final = 3.5
"""Until the old ones are forgotten: who was removed from the cluster hears nothing any more then."""
FETCHES_MAX: Final = 5


class Decided(Protocol):
    """What the cluster decided, and whether this node leads it; a `ReplicaDriver`."""

    @property
    def state(self) -> ClusterState:
        """As far as it is applied here."""
        ...

    @property
    def is_leader(self) -> bool:
        """Whether new keys are ours to make."""
        ...


class Kept(Protocol):
    """What this node kept of its trust; `NodeCredentials`."""

    @property
    def own(self) -> OwnTrust:
        """With the version of its gossip key."""
        ...


class KeySource(Protocol):
    """The other nodes; `TrustService`."""

    async def gossip_keys(self, version: int) -> GossipKeys:
        """The keys of one that has `version`; raises NotAvailableError when nobody has."""
        ...


class ChangeOwn(Protocol):
    """Notes which version this node has."""

    def __call__(self, *, gossip_key_version: int) -> Awaitable[None]:
        """On disk when it returns."""
        ...


class ChangeSettings(Protocol):
    """Proposes settings of the cluster."""

    def __call__(self, *, version: int, removals: int | None) -> Awaitable[None]:
        """Raises ConflictError for a version that another key has, and errors of a proposal."""
        ...


class GossipKeyKeeper:
    """One node's. `wake` is called when there is something for `keep` to do."""

    def __init__(
        self,
        ring: GossipRing,
        credentials: Kept,
        service: KeySource,
        replica: Decided,
        *,
        change_own: ChangeOwn,
        change_settings: ChangeSettings,
        wake: Callable[[], None],
    ) -> None:
        self._ring = ring
        self._credentials = credentials
        self._service = service
        self._replica = replica
        self._change_own = change_own
        self._change_settings = change_settings
        self._wake = wake
        self._offered_version = 0
        self._unrecorded: int | None = None
        self._failed_fetches = 0

    @property
    def offered(self) -> GossipKeys:
        """What a peer is given: the newest key first, also while it does not seal here yet."""
        return GossipKeys(keys=self._ring.offered, version=self._known_version)

    @property
    def version(self) -> int:
        """That of the key in force, as far as this node knows."""
        return max(1, self._replica.state.settings.gossip_key_version)

    @property
    def _known_version(self) -> int:
        return max(self._offered_version, self._credentials.own.gossip_key_version)

    async def keep(self) -> None:
        """Tell of a key that could not be told of yet, or ask for one that is not here yet. Raises OrcaError."""
        if self._unrecorded is not None:
            await self._record(self._unrecorded)
        elif self._lacks_key:
            await self._fetch()

    @property
    def has_work(self) -> bool:
        """Whether `keep` would do something."""
        return self._unrecorded is not None or self._lacks_key

    @property
    def _lacks_key(self) -> bool:
        return bool(self._ring.keys) and self._replica.state.settings.gossip_key_version > self._known_version

    @property
    def is_known_to_removed(self) -> bool:
        """Whether somebody was removed since there is the present key."""
        state = self._replica.state
        return bool(self._ring.keys) and state.settings.gossip_key_removals < len(state.revoked)

    async def rotate_for_removed(self) -> None:
        """A new key when somebody was removed since there is the present one; for the leader. Raises OrcaError."""
        if not self.is_known_to_removed:
            return
        removals = len(self._replica.state.revoked)
        version, key = self.version + 1, os.urandom(GOSSIP_KEY_BYTES)
        await self._ring.install(key)
        try:
            await self._change_settings(version=version, removals=removals)
        except OrcaError:
            await self._ring.withdraw(key)
            raise
        self._offered_version = version
        _log.info("gossip gets a new key, because a node was removed", version=version)
        await self._switch_to(key, version)

    async def rotated(self, key: bytes, since: int) -> None:
        """All who gossip have `key` now; when that began the version was `since`.

        Raises ConflictError when a node was removed meanwhile, and other errors when the cluster could not
        be told; then it is tried again, until it can be.
        """
        if not self._ring.keys:
            return
        for change in (self._ring.install, self._ring.use, self._ring.remove_others):
            await change(key)
        self._unrecorded = since + 1
        self._wake()
        await self._record(since + 1)

    async def _record(self, version: int) -> None:
        try:
            await self._change_settings(version=version, removals=None)
        except ConflictError as error:
            self._unrecorded = None
            raise ConflictError(
                "gossip gets another key, because a node was removed meanwhile or somebody else rotated it",
                hint="see `orca gossip keys list`, and rotate again",
            ) from error
        self._unrecorded = None
        self._offered_version = version
        await self._change_own(gossip_key_version=version)

    async def _fetch(self) -> None:
        """From whoever has it; the leader makes one when nobody has, because who made it is gone."""
        wanted = self._replica.state.settings.gossip_key_version
        try:
            found = await self._service.gossip_keys(wanted)
        except NotAvailableError:
            self._failed_fetches += 1
            if not self._replica.is_leader or self._failed_fetches < FETCHES_MAX:
                raise
            found = GossipKeys(keys=(os.urandom(GOSSIP_KEY_BYTES),), version=wanted)
        self._failed_fetches = 0
        for key in reversed(found.keys):
            await self._ring.install(key)
        self._offered_version = found.version
        await self._switch_to(found.keys[0], found.version)

    async def _switch_to(self, key: bytes, version: int) -> None:
        """Noted when it is over: who is killed in between asks for the keys again."""
        await trio.sleep(USE_AFTER_S)
        await self._ring.use(key)
        await trio.sleep(DROP_AFTER_S - USE_AFTER_S)
        await self._ring.remove_others(key)
        await self._change_own(gossip_key_version=version)
