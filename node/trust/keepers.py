"""What a running node does about trust by itself: certificates, data keys, the CA's succession, gossip keys.

`duties` and `renewal` say what is to be done; this does it whenever the state or the group changes, once a second
at most, and when its time has come.
"""

import math
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec
import structlog
import trio
from msgspec import UNSET

from consensus.driver import ReplicaDriver
from consensus.state.cluster import ClusterState
from consensus.state.commands import ChangeSettings, Command, DropAuthority, SignBy, WrapDataKey
from consensus.state.records import CertificateRecord
from node.bell import Bell
from node.changes import raise_refusal
from node.membership import Membership
from node.mesh.driver import Mesh
from node.trust.authority import make_request
from node.trust.credentials import NodeCredentials
from node.trust.data_keys import DataKeys
from node.trust.duties import is_wrapper, signing_authority, succession_of, wrappings_due
from node.trust.gossip_keys import GossipKeyKeeper
from node.trust.issuing import Issuer
from node.trust.kept import KeptTrust
from node.trust.renewal import CLOCK_LOOK_S, due_at_ms, retry_s
from node.trust.service import TrustService
from orca.errors import OrcaError
from orca.model.ids import NodeId, RequestId
from orca.model.units import Instant, WallMs
from orca.sources import Clock, IdSource

_log = structlog.get_logger("orca.trust")
LOOK_S: Final = 1.0
SETTLE_S: Final = 0.1
CURRENT_LOOK_S: Final = 4.0
CURRENT_S: Final = 15.0
FOLLOW_AFTER_S: Final = 2.0
"""A new authority is believed for so long before it signs."""


class TrustKeeper:
    """One node's. `others` gives the nodes of the cluster that live, without this one.

    `fed_age_s`: how long ago a source of intent said that this node has all that it has; infinite without a source.
    `decided` is rung when the state has changed, or the group, or who lives.
    """

    def __init__(  # noqa: PLR0913 - it looks after several parts of the node
        self,
        *,
        kept: KeptTrust,
        credentials: NodeCredentials,
        data_keys: DataKeys,
        issuer: Issuer,
        service: TrustService,
        replica: ReplicaDriver,
        mesh: Mesh,
        membership: Membership,
        clock: Clock,
        ids: IdSource,
        others: Callable[[], Iterable[NodeId]],
        fed_age_s: Callable[[], float],
        decided: Bell,
    ) -> None:
        self._kept = kept
        self._credentials = credentials
        self._data_keys = data_keys
        self._issuer = issuer
        self._service = service
        self._replica = replica
        self._mesh = mesh
        self._membership = membership
        self._clock = clock
        self._ids = ids
        self._others = others
        self._fed_age_s = fed_age_s
        self._node = credentials.keys.node
        self._chance = random.random()
        self._decided = decided
        self._believed: object = None
        self._current_at = Instant(-math.inf)
        self.gossip = GossipKeyKeeper(
            membership.ring,
            credentials,
            service,
            replica,
            change_own=self._change_own,
            change_settings=self._change_gossip_key,
            wake=decided.ring,
        )
        """The keys that seal gossip."""
        self._retry: dict[str, tuple[int, float]] = {}

    async def run(self) -> None:
        """Look after all of it until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_current)
            nursery.start_soon(self._keep_peers_checked)
            nursery.start_soon(self._keep, self._look_at_certificate, LOOK_S)
            nursery.start_soon(self._keep, self._do_duties, LOOK_S / 2)
            nursery.start_soon(self._keep, self._look_at_gossip_keys, LOOK_S / 4)

    async def _keep(self, look: Callable[[], Awaitable[float]], pause_s: float) -> None:
        """Look now, whenever something was decided, and after the seconds that the last look gave."""
        while True:
            heard = self._decided.rings
            longest_s = await look()
            await trio.sleep(pause_s)  # many changes in a row are looked at together
            await self._decided.wait(heard, longest_s - pause_s)

    # ---------------------------------------------------------------------- who is believed

    def is_current(self) -> bool:
        """Whether this node lately knew all that was decided, so that its list of certificates is the list."""
        return self._replica.is_leader or self._clock.now() - self._current_at <= CURRENT_S

    async def _keep_current(self) -> None:
        while True:
            asked_at = self._clock.now()
            if await self._knows_all():
                self._current_at = asked_at
            await trio.sleep(CURRENT_LOOK_S)

    async def _knows_all(self) -> bool:
        if self._replica.is_leader:
            return True
        try:
            await self._replica.read_barrier(deadline_s=CURRENT_LOOK_S)
        except OrcaError:
            return self._fed_age_s() < LOOK_S * 2
        return True

    async def _keep_peers_checked(self) -> None:
        """Close connections whose certificate is not good any more as soon as the state says so."""
        while True:
            heard = self._decided.rings
            state = self._replica.state
            believed = (
                {node: one.certificates for node, one in state.nodes.items()},
                tuple(state.authorities),
                len(state.revoked),
            )
            if believed != self._believed:
                self._believed = believed
                self._mesh.recheck()
                self._membership.nodes_changed()
            await trio.sleep(SETTLE_S)  # many changes in a row are looked at together
            await self._decided.wait(heard)

    # ---------------------------------------------------------------------- own certificate

    async def _look_at_certificate(self) -> float:
        if self._certificate_due_s() <= 0:
            await self._try("certificate", self._renew)
        return min(max(LOOK_S, self._certificate_due_s()), CLOCK_LOOK_S)

    def _certificate_due_s(self) -> float:
        """Until the next certificate is to be asked for."""
        signing = signing_authority(self._replica.state)
        fingerprint = "" if signing is None else signing.fingerprint
        signs_from_ms = 0.0 if signing is None else signing.created_at_ms + FOLLOW_AFTER_S * 1000
        due_at = due_at_ms(self._credentials.lifetime(), self._chance, fingerprint, signs_from_ms)
        return (due_at - self._clock.wall()) / 1000

    async def _renew(self) -> None:
        keys = self._credentials.keys
        request = make_request(self._credentials.cluster, keys.node, keys.tls_key)
        listed: CertificateRecord | None = None
        if self._data_keys.can_sign:
            certificate, listed = self._issuer.sign(keys.node, request)
            if self._credentials.lifetime().not_after_ms > self._clock.wall():
                await self._issuer.record(keys.node, listed)
                listed = None
        else:
            certificate = await self._service.renew(request)
        await self._show(certificate)
        if listed is not None:
            # The old one had expired, so nobody could be reached to have the new one listed first.
            await self._issuer.record(keys.node, listed)
        _log.info("this node has a new certificate", good_until_ms=self._credentials.lifetime().not_after_ms)

    async def _show(self, certificate: bytes) -> None:
        await self._change_own(
            certificate=certificate,
            authorities=self._credentials.anchors(),
            cross=self._credentials.cross_certificates(),
        )
        self._chance = random.random()

    async def _change_own(self, **fields: Any) -> None:
        """Several tasks change different parts of it, so what is in memory is changed first."""
        own = self._credentials.own = msgspec.structs.replace(self._credentials.own, **fields)
        await self._kept.keep_own_soon(own)

    # ------------------------------------------------------------------ for all of the cluster

    async def _do_duties(self) -> float:
        await self._try("data keys", self._wrap)
        if self._replica.is_leader:
            await self._try("authority", self._succeed)
            await self._try("gossip key", self.gossip.rotate_for_removed)
        return LOOK_S / 2 if self._has_duties() else CLOCK_LOOK_S

    def _has_duties(self) -> bool:
        """Whether something is left to be done, which may be for another node to do as long as that lives."""
        state = self._replica.state
        if wrappings_due(state):
            return True
        due = succession_of(state)
        return self._replica.is_leader and (bool(due.follow or due.drop) or self.gossip.is_known_to_removed)

    async def _wrap(self) -> None:
        state, alive = self._replica.state, frozenset(self._others())
        for due in wrappings_due(state):
            if is_wrapper(state, due.version, self._node, self._replica.leader, alive):
                command = WrapDataKey(
                    **self._stamp(), version=due.version, wrapped=self._data_keys.wrap_all(due), unwrap=due.unwrap
                )
                await self._propose(command)

    async def _succeed(self) -> None:
        state = self._replica.state
        due = succession_of(state)
        if due.follow and self._is_known_for(state, due.follow):
            await self._propose(SignBy(**self._stamp(), authority=due.follow))
        for authority in due.drop:
            await self._propose(DropAuthority(**self._stamp(), authority=authority))
            _log.info("an older CA is trusted no more", fingerprint=authority)

    def _is_known_for(self, state: ClusterState, authority: str) -> bool:
        return self._clock.wall() >= state.authorities[authority].created_at_ms + FOLLOW_AFTER_S * 1000

    async def _look_at_gossip_keys(self) -> float:
        await self._try("gossip keys", self.gossip.keep)
        return LOOK_S / 4 if self.gossip.has_work else CLOCK_LOOK_S

    # ----------------------------------------------------------------------------------- ways

    async def _try(self, what: str, attempt: Callable[[], Awaitable[None]]) -> None:
        """Do it, or wait longer after each failure."""
        failures, not_before = self._retry.get(what, (0, 0.0))
        if self._clock.now() < not_before:
            return
        try:
            await attempt()
        except OrcaError as error:
            level = _log.warning if failures in {0, 5} else _log.debug
            level("trust could not be looked after", what=what, reason=error.message)
            wait_s = retry_s(failures + 1, random.random())
            self._retry[what] = (failures + 1, self._clock.now() + wait_s)
        else:
            self._retry.pop(what, None)

    def _stamp(self) -> dict[str, Any]:
        return {
            "request_id": RequestId(self._ids.fresh()),
            "at_ms": WallMs(self._clock.wall()),
            "actor": f"node:{self._node}",
        }

    async def _change_gossip_key(self, *, version: int, removals: int | None) -> None:
        command = ChangeSettings(
            **self._stamp(), gossip_key_version=version, gossip_key_removals=UNSET if removals is None else removals
        )
        await self._propose(command)

    async def _propose(self, command: Command) -> None:
        raise_refusal(await self._replica.propose(command))
