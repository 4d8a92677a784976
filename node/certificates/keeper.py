"""Keeps the certificates of this node's ingress: has them signed, renews them, and shows them."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from consensus.driver import ReplicaDriver
from node.bell import Bell
from node.certificates.brought import BroughtCertificates
from node.certificates.signing import LEAVES_MAX, LeafSigner, Names
from node.certificates.wanted import Leaf, own_names, served_domains
from node.changes import raise_refusal
from node.proxy.certificates import CertificateTable, Chain, build_certificate_table
from node.trust.authority import encode_key, lifetime_of, load_certificate, load_key
from node.trust.credentials import pem_of
from node.trust.data_keys import DataKeys
from node.trust.leaves import make_ingress_authority, make_leaf_request
from node.trust.renewal import CLOCK_LOOK_S, Lifetime, renew_at_ms, retry_s
from orca.errors import OrcaError
from orca.model.ids import RequestId
from orca.model.units import Instant, WallMs
from orca.sources import Clock, IdSource

_log = structlog.get_logger("orca.proxy")
SETTLE_S: Final = 0.1
"""Many changes in a row are looked at together."""
LOOK_S: Final = 1.0


class CertificateKeeper:
    """One node's. `show` takes a new table; `decided` is rung when the state, the group or who lives has changed."""

    def __init__(  # noqa: PLR0913 - it joins several parts of the node
        self,
        replica: ReplicaDriver,
        data_keys: DataKeys,
        signer: LeafSigner,
        brought: BroughtCertificates,
        clock: Clock,
        ids: IdSource,
        *,
        show: Callable[[CertificateTable], None],
        decided: Bell,
    ) -> None:
        self._replica = replica
        self._data_keys = data_keys
        self._signer = signer
        self._brought = brought
        self._clock = clock
        self._ids = ids
        self._show = show
        self._decided = decided
        key = encode_key(ec.generate_private_key(ec.SECP256R1()))
        self._csr = make_leaf_request(key)
        self._key_pem = load_key(key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._held: dict[Names, Leaf] = {}
        self._failures = 0
        self._not_before = self._next_at = Instant(-math.inf)
        self._seen: object = None

    async def run(self) -> None:
        """Look now, whenever something was decided, and when something is due, until cancelled."""
        while True:
            heard = self._decided.rings
            longest_s = await self.look()
            await trio.sleep(SETTLE_S)
            await self._decided.wait(heard, longest_s - SETTLE_S)

    async def look(self) -> float:
        """Do what is due, where anything has changed or its time has come; seconds until the next look."""
        seen = (self._replica.state.revision, self._replica.is_leader)
        if seen != self._seen or self._clock.now() >= self._next_at:
            rest_s = await self._look()
            self._seen, self._next_at = seen, Instant(self._clock.now() + rest_s)
        return self._next_at - self._clock.now()

    async def _look(self) -> float:
        if await self._brought.look(self._replica.state):
            self._show_all()
        if self._clock.now() < self._not_before:
            return self._not_before - self._clock.now()
        try:
            await self._found()
            is_complete = await self._certify()
        except OrcaError as error:
            self._failures += 1
            wait_s = retry_s(self._failures, random.random())
            self._not_before = Instant(self._clock.now() + wait_s)
            level = _log.warning if self._failures in {3, 10} else _log.debug
            level("certificates of the ingress could not be looked after", reason=error.message)
            return wait_s
        self._failures = 0
        if self._brought.is_waiting or not is_complete:
            return LOOK_S
        next_ms = min((leaf.renew_at_ms for leaf in self._held.values()), default=math.inf)
        return min(max(LOOK_S, (next_ms - self._clock.wall()) / 1000), CLOCK_LOOK_S)

    async def _found(self) -> None:
        """Make the CA of served names, where this node leads and there is none."""
        state = self._replica.state
        is_for_us = self._replica.is_leader and self._data_keys.can_open(self._data_keys.newest)
        if state.ingress_authority is not None or not state.authorities or not is_for_us:
            return
        key = encode_key(ec.generate_private_key(ec.SECP256R1()))
        at_ms = self._clock.wall()
        authority = make_ingress_authority(
            self._data_keys.cluster, key, serial=x509.random_serial_number(), at_ms=at_ms
        )
        command = self._data_keys.put_ingress_authority(
            authority, at_ms=at_ms, actor=f"node:{self._data_keys.node}", request_id=RequestId(self._ids.fresh())
        )
        raise_refusal(await self._replica.propose(command))
        _log.info("served names have their CA", fingerprint=authority.fingerprint)

    async def _certify(self) -> bool:
        """Have signed what is due, in pieces, and show what changed; whether nothing is missing that others know.

        Raises NotAvailableError.
        """
        state = self._replica.state
        wanted = self._wanted()
        gone = self._held.keys() - wanted.keys()
        for names in gone:
            del self._held[names]
        if gone:
            self._show_all()
        if state.ingress_authority is None:
            return True
        authority, now_ms = state.ingress_authority.fingerprint, self._clock.wall()
        due = [names for names in wanted if _is_due(self._held.get(names), authority, now_ms)]
        for start in range(0, len(due), LEAVES_MAX):
            piece = due[start : start + LEAVES_MAX]
            certificates = await self._signer.certify(self._csr, piece)
            made = await trio.to_thread.run_sync(_make_leaves, self._key_pem, piece, certificates, authority)
            self._held |= made
            self._show_all()
        return len(self._held) == len(wanted)

    def _own(self) -> Names:
        return own_names(self._replica.state.nodes.get(self._data_keys.node))

    def _wanted(self) -> dict[Names, None]:
        """What this node is to have a leaf for: itself, and every domain for which nobody brought a certificate."""
        brought = self._brought.domains()
        domains = served_domains(self._replica.state)
        return dict.fromkeys([self._own(), *((domain,) for domain in domains if domain not in brought)])

    def _show_all(self) -> None:
        own = self._own()
        anonymous = self._held.get(own)
        domains = (leaf.chain for names, leaf in self._held.items() if names != own)
        chains = (*self._brought.chains(), *domains, *(() if anonymous is None else (anonymous.chain,)))
        self._show(build_certificate_table(chains, None if anonymous is None else anonymous.chain))


def _is_due(held: Leaf | None, authority: str, now_ms: WallMs) -> bool:
    return held is None or held.life.authority != authority or held.renew_at_ms <= now_ms


def _make_leaves(
    key_pem: bytes, leaves: Sequence[Names], certificates: Sequence[bytes], authority: str
) -> dict[Names, Leaf]:
    """What was signed, ready to be shown; without those that nobody signs yet. Takes a fifth of a millisecond each."""
    made = {}
    for names, certificate in zip(leaves, certificates, strict=True):
        if certificate:
            begins, ends = lifetime_of(load_certificate(certificate))
            life = Lifetime(not_before_ms=begins, not_after_ms=ends, authority=authority)
            chain = Chain(names=names, pem=key_pem + pem_of(certificate).encode())
            made[names] = Leaf(chain=chain, life=life, renew_at_ms=renew_at_ms(life, random.random()))
    return made
