"""Secrets as the API shows and takes them. No answer ever holds a value."""

import msgspec

from orca.model.ids import RequestId, SecretId, ServiceId, StateRevision
from orca.model.units import WallMs
from orca.model.view import Observation, ServiceChange


class SecretView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A secret without its value. `users`: the services whose present spec uses it."""

    id: SecretId
    version: StateRevision
    created_at_ms: WallMs
    updated_at_ms: WallMs
    updated_by: str
    users: tuple[ServiceId, ...] = ()


class SecretsReply(msgspec.Struct, frozen=True, kw_only=True):
    """Secrets by id."""

    observation: Observation
    secrets: tuple[SecretView, ...]


class SetSecretsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Set secrets, all or none: `<project>/<name>` (no project: the whole cluster) to base64 of the value."""

    values: dict[SecretId, bytes]
    request_id: RequestId | None = None

    def __repr__(self) -> str:
        return f"SetSecretsRequest(values of {sorted(self.values)})"


class SecretsChangeReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a change. `changes` are the services that get new copies because of it."""

    observation: Observation
    changed: tuple[SecretId, ...] = ()
    unchanged: tuple[SecretId, ...] = ()
    changes: tuple[ServiceChange, ...] = ()


class DataKeyReply(msgspec.Struct, frozen=True, kw_only=True):
    """The data key after a rotation, and how many secrets were sealed anew with it."""

    observation: Observation
    version: int
    secrets: int
