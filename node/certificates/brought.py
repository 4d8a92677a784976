"""The certificates that people bring, as this node shows them: read from secrets, checked, and told about."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol

import msgspec
import structlog

from consensus.state.cluster import ClusterState, ServiceRecord
from node.certificates.pairs import Pair, domains_of, read_pair, secrets_in_use
from node.proxy.certificates import Chain
from node.trust.authority import DAY_MS, show_time
from orca.errors import InvalidRequestError, OrcaError
from orca.model.event import EventKind, Severity
from orca.model.ids import SecretId, ServiceId, display_name
from orca.model.units import WallMs

_log = structlog.get_logger("orca.proxy")
WARNED_MS: Final = (14 * DAY_MS, 3 * DAY_MS)
"""How long before a certificate ends somebody is told."""
STANDS_IN: Final = "the cluster's own CA stands in"

ReadSecrets = Callable[[ServiceId, tuple[SecretId, ...]], Awaitable[tuple[bytes, ...]]]
"""Gives the values of secrets that the ingress needs for a service. Raises NotAvailableError."""


class Tell(Protocol):
    """Takes what people should hear."""

    def __call__(self, kind: EventKind, message: str, severity: Severity = Severity.INFO) -> None:
        """Note it."""
        ...


class _Brought(msgspec.Struct, kw_only=True):
    """What a service brings. `made_of`: secrets with their versions, and domains; `pair` None: nothing to show."""

    made_of: tuple[object, ...]
    pair: Pair | None
    warnings: int = 0


class BroughtCertificates:
    """Of all services; `tell` hears of what cannot be shown, and of what ends soon."""

    def __init__(self, read: ReadSecrets, wall: Callable[[], WallMs], tell: Tell) -> None:
        self._read = read
        self._wall = wall
        self._tell = tell
        self._held: dict[ServiceId, _Brought] = {}
        self.is_waiting = False
        """Whether a secret could not be had, so that it is worth asking again soon."""

    def chains(self) -> Iterator[Chain]:
        """Those that can be shown now, by service."""
        return (held.pair.chain for _, held in sorted(self._held.items()) if held.pair is not None)

    def domains(self) -> frozenset[str]:
        """The domains that these cover."""
        return frozenset(name for chain in self.chains() for name in chain.names)

    async def look(self, state: ClusterState) -> bool:
        """Read what is new; whether something else is to be shown than before."""
        before = list(self.chains())
        bringing = {name: record for name, record in state.services.items() if record.spec.ingress.tls is not None}
        for gone in self._held.keys() - bringing.keys():
            del self._held[gone]
        self.is_waiting = False
        for name, record in bringing.items():
            await self._look_at(state, name, record)
            self._watch(name)
        return list(self.chains()) != before

    async def _look_at(self, state: ClusterState, name: ServiceId, record: ServiceRecord) -> None:
        secrets = secrets_in_use(state, record.spec)
        if secrets is None:
            return  # `apply` lets nobody take them away while they are in use
        domains = domains_of(record.spec)
        made_of = (*((one, state.secrets[one].version) for one in secrets), domains)
        held = self._held.get(name)
        if held is not None and held.made_of == made_of:
            return
        try:
            certificate, key = await self._read(name, secrets)
        except OrcaError as error:
            self.is_waiting = True
            _log.debug("a certificate waits for its secrets", service=name, reason=error.message)
            return
        try:
            pair = read_pair(certificate, key, domains, self._wall())
        except InvalidRequestError as error:
            kept = None if held is None else held.pair
            if kept is not None and kept.chain.names != domains:
                kept = None
            otherwise = STANDS_IN if kept is None else "the one before it is shown on"
            message = f"{display_name(name)}: its own certificate cannot be shown: {error.message}; {otherwise}"
            self._tell(EventKind.CERTIFICATE_REFUSED, message, Severity.ERROR)
            self._held[name] = _Brought(made_of=made_of, pair=kept, warnings=0 if held is None else held.warnings)
        else:
            self._held[name] = _Brought(made_of=made_of, pair=pair)

    def _watch(self, name: ServiceId) -> None:
        """Warn of an end that is near, twice; show nothing after it."""
        held = self._held.get(name)
        if held is None or held.pair is None:
            return
        left_ms = held.pair.ends_ms - self._wall()
        until = show_time(held.pair.ends_ms)
        if left_ms <= 0:
            held.pair = None
            message = f"{display_name(name)}: its own certificate has expired at {until}; {STANDS_IN}"
            self._tell(EventKind.CERTIFICATE_REFUSED, message, Severity.ERROR)
            return
        due = sum(left_ms <= limit for limit in WARNED_MS)
        if due > held.warnings:
            held.warnings = due
            message = f"{display_name(name)}: its own certificate is good until {until} and no longer"
            self._tell(EventKind.CERTIFICATE_EXPIRES, f"{message}; bring the next one", Severity.WARNING)
