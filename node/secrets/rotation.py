"""A new data key: everything that the old one sealed is sealed anew, and the old one is forgotten.

People ask for it, and it begins by itself when a node was removed that could open the old one (`ExposureKeeper`).
Each step is a command of its own, and each is safe to break off after: a data key that seals nothing more is
dropped by the next rotation, and until then every member can open both.
"""

import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import structlog
import trio

from consensus.driver import ReplicaDriver
from consensus.state.cluster import ClusterState
from consensus.state.commands import Command, DropDataKey, PutAuthority, PutDataKey, ResealSecrets, SealedEntry
from node import changes
from node.trust.data_keys import DataKeys
from node.trust.duties import is_wrapper
from node.trust.renewal import retry_s
from node.trust.sealing import DATA_KEY_BYTES
from orca.errors import ConflictError, NotAvailableError, OrcaError
from orca.model.ids import NodeId, RequestId
from orca.model.trust import Author, NodeRole
from orca.model.units import Instant
from orca.sources import Clock, IdSource

_log = structlog.get_logger("orca.secrets")
LOOK_S: Final = 1.0
ENTRIES_MAX: Final = 100
"""Secrets sealed anew in one command: at their largest they stay below the limit of a command."""


class KeyRotation:
    """Rotates the cluster's data key from this node, which must be able to open the present one."""

    def __init__(self, replica: ReplicaDriver, data_keys: DataKeys, clock: Clock, ids: IdSource) -> None:
        self._replica = replica
        self._data_keys = data_keys
        self._clock = clock
        self._ids = ids
        self._is_running = False

    @property
    def _state(self) -> ClusterState:
        return self._replica.state

    async def run(self, by: Author) -> tuple[int, int]:
        """Do it; the new version, and how many secrets are sealed with it.

        Raises ConflictError while another runs on this node, NotAvailableError on a node without the data key and
        without a quorum. Secrets that are changed meanwhile are sealed with the new key already.
        """
        with self._alone():
            self._data_keys.key(self._data_keys.newest)
            version = await self._put_key(by)
            return version, await self._move_to(version, by)

    async def replace_exposed(self, by: Author) -> int:
        """Leave every data key that a removed node knew, or go on with leaving it; the version that is used.

        Raises as `run` does.
        """
        newest = self._data_keys.newest
        if self._state.data_keys[newest].is_exposed:
            newest, _ = await self.run(by)
            return newest
        with self._alone():
            await self._move_to(newest, by)
        return newest

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._is_running:
            raise ConflictError("a rotation of the data key runs already on this node")
        self._is_running = True
        try:
            yield
        finally:
            self._is_running = False

    async def _move_to(self, version: int, by: Author) -> int:
        """Let `version` seal everything, and forget the others; how many secrets were sealed anew."""
        count = await self._reseal_secrets(version, by)
        await self._reseal_authorities(version, by)
        await self._reseal_ingress_authority(version, by)
        await self._drop_others(version, by)
        return count

    async def _put_key(self, by: Author) -> int:
        version, key = self._data_keys.newest + 1, os.urandom(DATA_KEY_BYTES)
        members = [one for one in self._state.nodes.values() if one.role is NodeRole.MEMBER and one.wrap_key]
        if not members:
            raise NotAvailableError("no member has told its key yet, so the new data key could be given to nobody")
        wrapped = {one.id: self._data_keys.wrap(key, one.wrap_key, one.id, version) for one in members}
        await self._propose(
            PutDataKey(
                request_id=self._request_id(),
                at_ms=self._clock.wall(),
                actor=by.actor,
                origin=by.origin,
                version=version,
                wrapped=wrapped,
            )
        )
        return version

    async def _reseal_secrets(self, version: int, by: Author) -> int:
        count = 0
        while due := [one for one in self._state.secrets.values() if one.key_version != version][:ENTRIES_MAX]:
            entries = []
            for one in due:
                value = self._data_keys.open(one.id, one.key_version, one.ciphertext)
                key_version, ciphertext = self._data_keys.seal(one.id, value)
                entries.append(
                    SealedEntry(secret=one.id, key_version=key_version, ciphertext=ciphertext, expected=one.version)
                )
            await self._propose(
                ResealSecrets(
                    request_id=self._request_id(),
                    at_ms=self._clock.wall(),
                    actor=by.actor,
                    origin=by.origin,
                    entries=tuple(entries),
                )
            )
            count += len(entries)
        return count

    async def _reseal_authorities(self, version: int, by: Author) -> None:
        for record in list(self._state.authorities.values()):
            if record.key_version == version:
                continue
            sealed = self._data_keys.reseal_authority(record)
            await self._propose(
                PutAuthority(
                    request_id=self._request_id(),
                    at_ms=self._clock.wall(),
                    actor=by.actor,
                    origin=by.origin,
                    authority=record.fingerprint,
                    certificate=record.certificate,
                    sealed_key=sealed,
                    key_version=version,
                    cross=record.cross,
                )
            )

    async def _reseal_ingress_authority(self, version: int, by: Author) -> None:
        record = self._state.ingress_authority
        if record is None or record.key_version == version:
            return
        command = self._data_keys.put_ingress_authority(
            self._data_keys.ingress_signing(), at_ms=self._clock.wall(), actor=by.actor, request_id=self._request_id()
        )
        await self._propose(msgspec.structs.replace(command, origin=by.origin))

    async def _drop_others(self, version: int, by: Author) -> None:
        for old in sorted(self._state.data_keys):
            if old != version:
                await self._propose(
                    DropDataKey(
                        request_id=self._request_id(),
                        at_ms=self._clock.wall(),
                        actor=by.actor,
                        origin=by.origin,
                        version=old,
                    )
                )

    def _request_id(self) -> RequestId:
        return RequestId(self._ids.fresh())

    async def _propose(self, command: Command) -> None:
        changes.raise_refusal(await self._replica.propose(command))


class ExposureKeeper:
    """Replaces data keys that a removed node knew: the leader does, or the first living member that can."""

    def __init__(
        self,
        node: NodeId,
        replica: ReplicaDriver,
        rotation: KeyRotation,
        clock: Clock,
        *,
        others: Callable[[], Iterable[NodeId]],
    ) -> None:
        self._node = node
        self._replica = replica
        self._rotation = rotation
        self._clock = clock
        self._others = others

    async def run(self) -> None:
        """Look once a second until cancelled."""
        failures = 0
        not_before = self._clock.now()
        while True:
            if self._clock.now() >= not_before and self.is_due():
                try:
                    version = await self._rotation.replace_exposed(Author(actor=f"node:{self._node}"))
                except OrcaError as error:
                    _log.warning("the data key that a removed node knew is not replaced yet", reason=error.message)
                    failures += 1
                    not_before = Instant(self._clock.now() + retry_s(failures, random.random()))
                else:
                    failures = 0
                    _log.info("secrets have a new data key, because a node was removed", version=version)
            await trio.sleep(LOOK_S)

    def is_due(self) -> bool:
        """Whether it is for this node to do it now."""
        state = self._replica.state
        if not any(key.is_exposed for key in state.data_keys.values()):
            return False
        return is_wrapper(state, max(state.data_keys), self._node, self._replica.leader, frozenset(self._others()))
