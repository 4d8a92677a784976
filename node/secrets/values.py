"""The values that a copy needs, opened here or asked of a member."""

from collections.abc import Callable, Mapping
from typing import Protocol

from consensus.state.cluster import ClusterState
from node.secrets.vault import Vault
from orca.errors import NotAvailableError, OrcaError
from orca.model.ids import AllocationId, SecretId, ServiceId
from orca.model.secrets import find_secret, missing_secret, named_in, secrets_of
from orca.model.spec import ServiceSpec


class AskPeers(Protocol):
    """Gives the values of secrets that a copy of this node uses, from another node."""

    async def ask(self, allocation: AllocationId, secrets: tuple[SecretId, ...]) -> Mapping[SecretId, bytes]:
        """All of them. Raises NotAvailableError."""
        ...

    async def ask_for_ingress(self, service: ServiceId, secrets: tuple[SecretId, ...]) -> Mapping[SecretId, bytes]:
        """The same of those that the ingress needs for a service."""
        ...


class SecretValues:
    """Opens what the specs of this node's copies name. `state` gives the replicated state of this moment."""

    def __init__(self, state: Callable[[], ClusterState], vault: Vault, peers: AskPeers) -> None:
        self._state = state
        self._vault = vault
        self._peers = peers

    async def of(self, allocation: AllocationId, spec: ServiceSpec) -> dict[str, bytes]:
        """The value of every secret that `spec` names, by the name that it uses.

        Raises NotAvailableError naming the first secret that is not there, cannot be opened, or is to stand in
        the environment and is no text.
        """
        ids = {name: self._find(spec, name) for name in secrets_of(spec)}
        if not ids:
            return {}
        wanted = tuple(dict.fromkeys(ids.values()))
        try:
            opened: Mapping[SecretId, bytes] = {secret: self.open(secret) for secret in wanted}
        except NotAvailableError as own:
            try:
                opened = await self._peers.ask(allocation, wanted)
            except OrcaError as error:
                raise NotAvailableError(f"{own.message}; and from the others: {error.message}") from error
        for name, value in spec.env.items():
            for reference in named_in(value):
                _check_text(ids[reference], opened[ids[reference]], name)
        return {name: opened[secret] for name, secret in ids.items()}

    async def of_ingress(self, service: ServiceId, secrets: tuple[SecretId, ...]) -> tuple[bytes, ...]:
        """The values of `secrets`, which belong to the certificate of `service`. Raises NotAvailableError."""
        try:
            return tuple(self.open(secret) for secret in secrets)
        except NotAvailableError:
            opened = await self._peers.ask_for_ingress(service, secrets)
        return tuple(opened[secret] for secret in secrets)

    def _find(self, spec: ServiceSpec, name: str) -> SecretId:
        found = find_secret(spec.project, name, self._state().secrets.__contains__)
        if found is None:
            raise NotAvailableError(missing_secret(spec, name))
        return found

    def open(self, secret: SecretId) -> bytes:
        """The value of `secret`, opened with this node's own key. Raises NotAvailableError."""
        record = self._state().secrets.get(secret)
        if record is None:
            raise NotAvailableError(f"the secret {secret} does not exist any more")
        return self._vault.open(secret, record.key_version, record.ciphertext)


def _check_text(secret: SecretId, value: bytes, variable: str) -> None:
    try:
        is_text = "\0" not in value.decode()
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        raise NotAvailableError(
            f"the secret {secret} is no text and cannot stand in the variable {variable}; mount it as a file: "
            f'files = {{ "/run/secrets/{variable.lower()}" = {{ secret = "…" }} }}'
        )
