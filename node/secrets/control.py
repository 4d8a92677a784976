"""Secrets as people change and list them. No answer holds a value."""

import hmac
from collections.abc import Callable, Mapping
from typing import Final

from consensus.driver import ReplicaDriver
from consensus.state.applying.services import users_of
from consensus.state.cluster import ClusterState, Outcome
from consensus.state.commands import Command, DeleteSecrets, PutSecrets, SealedEntry
from node import changes
from node.secrets.rotation import KeyRotation
from node.secrets.vault import Vault
from orca.errors import InvalidRequestError, NotAvailableError, OrcaError, PayloadTooLargeError
from orca.model.ids import NodeId, ProjectName, RequestId, SecretId
from orca.model.secret_view import SecretView
from orca.model.secrets import SECRET_BYTES_MAX, SECRET_NAME, split_secret_id
from orca.model.trust import Author
from orca.model.view import ServiceChange
from orca.sources import Clock

VALUES_MAX: Final = 500
"""Secrets in one request: with their values they stay far below the limit of a command."""


class SecretControl:
    """Sets, removes and lists. Values come in and never go out."""

    def __init__(
        self,
        replica: ReplicaDriver,
        vault: Vault,
        clock: Clock,
        rotation: KeyRotation,
        *,
        sealers: Callable[[], tuple[NodeId, ...]] = tuple,
    ) -> None:
        self.sealers = sealers
        """The living nodes that can seal, on one that cannot."""
        self._rotation = rotation
        self._replica = replica
        self._vault = vault
        self._clock = clock

    @property
    def _state(self) -> ClusterState:
        return self._replica.state

    def list(self, project: ProjectName | None = None) -> tuple[SecretView, ...]:
        """All secrets by id, or those of `project`."""
        return tuple(
            SecretView(
                id=one.id,
                version=one.version,
                created_at_ms=one.created_at_ms,
                updated_at_ms=one.updated_at_ms,
                updated_by=one.updated_by,
                users=tuple(users_of(self._state, one.id)),
            )
            for one in sorted(self._state.secrets.values(), key=lambda one: one.id)
            if project is None or split_secret_id(one.id)[0] == project
        )

    async def set(
        self, values: Mapping[SecretId, bytes], *, request_id: RequestId, by: Author
    ) -> tuple[tuple[SecretId, ...], tuple[ServiceChange, ...]]:
        """Seal `values` and put them, all or none; which were changed, and the services that get new copies.

        A value that is what the secret has already changes nothing. Raises InvalidRequestError for what cannot be
        a secret, NotAvailableError on a node without the data key and without a quorum.
        """
        _check(values)
        changed = {secret: value for secret, value in values.items() if not self._has(secret, value)}
        if not changed:
            return (), ()
        entries = []
        for secret, value in sorted(changed.items()):
            key_version, ciphertext = self._vault.seal(secret, value)
            entries.append(SealedEntry(secret=secret, key_version=key_version, ciphertext=ciphertext))
        command = PutSecrets(
            request_id=request_id, at_ms=self._clock.wall(), actor=by.actor, origin=by.origin, entries=tuple(entries)
        )
        return tuple(sorted(changed)), (await self._propose(command)).changes

    def value(self, secret: SecretId) -> bytes | None:
        """What `secret` holds, for checks on this node; None where it cannot be opened."""
        record = self._state.secrets.get(secret)
        try:
            return None if record is None else self._vault.open(secret, record.key_version, record.ciphertext)
        except NotAvailableError:
            return None

    async def remove(self, secrets: tuple[SecretId, ...], *, request_id: RequestId, by: Author) -> None:
        """Forget secrets, all or none. Raises NotFoundError, ConflictError for one that a service uses."""
        await self._propose(
            DeleteSecrets(
                request_id=request_id, at_ms=self._clock.wall(), actor=by.actor, origin=by.origin, secrets=secrets
            )
        )

    async def rotate(self, *, by: Author) -> tuple[int, int]:
        """Seal everything with a new data key; its version, and how many secrets it seals. See `KeyRotation`."""
        return await self._rotation.run(by)

    async def _propose(self, command: Command) -> Outcome:
        outcome = await self._replica.propose(command)
        changes.raise_refusal(outcome)
        return outcome

    def _has(self, secret: SecretId, value: bytes) -> bool:
        record = self._state.secrets.get(secret)
        if record is None:
            return False
        try:
            present = self._vault.open(secret, record.key_version, record.ciphertext)
        except OrcaError:
            return False  # nobody here can tell; the new value replaces it whatever it was
        return hmac.compare_digest(present, value)


def _check(values: Mapping[SecretId, bytes]) -> None:
    if not values:
        raise InvalidRequestError("no secret is named; `values` needs at least one")
    if len(values) > VALUES_MAX:
        raise InvalidRequestError(f"{len(values)} secrets come at once; at most {VALUES_MAX} go into one request")
    for secret, value in values.items():
        project, slash, name = secret.partition("/")
        if not slash or not SECRET_NAME.fullmatch(name) or (project and not SECRET_NAME.fullmatch(project)):
            raise InvalidRequestError(
                f"{secret[:200]!r} is no id of a secret",
                hint="write PROJECT/NAME, or /NAME for the whole cluster; a name has letters, digits, '_', '.', '-'",
            )
        if len(value) > SECRET_BYTES_MAX:
            raise PayloadTooLargeError(
                f"the value of {secret} has {len(value)} bytes; a secret has at most {SECRET_BYTES_MAX}"
            )
