"""Certificates given out by this node: signed, and in the state before anybody has them."""

from cryptography import x509

from consensus.driver import ReplicaDriver
from consensus.state.commands import RecordCertificate, RedeemJoinToken
from consensus.state.records import CertificateRecord
from node.changes import raise_refusal
from node.trust.authority import fingerprint_of, lifetime_of, load_certificate, read_request, sign_request
from node.trust.data_keys import DataKeys
from node.trust.messages import JoinRequest
from orca.errors import ForbiddenError
from orca.model.ids import ClusterId, NodeId, RequestId
from orca.model.join_token import hash_secret
from orca.sources import Clock, IdSource


class Issuer:
    """Signs for who may have it; only what is committed is given out."""

    def __init__(
        self, cluster: ClusterId, data_keys: DataKeys, replica: ReplicaDriver, clock: Clock, ids: IdSource
    ) -> None:
        self._cluster = cluster
        self._data_keys = data_keys
        self._replica = replica
        self._clock = clock
        self._ids = ids

    async def admit(self, request: JoinRequest, key: str, origin: str) -> bytes:
        """The certificate of a new node, which belongs to the cluster when this returns.

        Raises what the state refuses it with, NotAvailableError on a node that cannot sign, and without a quorum.
        """
        certificate, record = self._sign(request.node, request.csr)
        outcome = await self._replica.propose(
            RedeemJoinToken(
                request_id=self._request_id(),
                at_ms=self._clock.wall(),
                actor=f"token:{request.token}",
                origin=origin,
                token=request.token,
                secret_hash=hash_secret(request.secret),
                node=request.node,
                name=request.name,
                key=key,
                wrap_key=request.wrap_key,
                addresses=request.addresses,
                certificate=record,
                schema=request.schema,
                release=request.release,
            )
        )
        raise_refusal(outcome)
        return certificate

    async def renew(self, node: NodeId, csr: bytes) -> bytes:
        """The next certificate of a node of the cluster. Raises ForbiddenError for another key than it has."""
        key = read_request(csr, self._cluster, node)
        record = self._replica.state.nodes.get(node)
        if record is None or record.key != key:
            raise ForbiddenError(f"{node} asked for a certificate for a key that is not its own")
        certificate, listed = self._sign(node, csr)
        await self.record(node, listed)
        return certificate

    def sign(self, node: NodeId, csr: bytes) -> tuple[bytes, CertificateRecord]:
        """A certificate, and how the state is to list it; raises NotAvailableError on a node that cannot sign."""
        return self._sign(node, csr)

    async def record(self, node: NodeId, listed: CertificateRecord) -> None:
        """Put it on the list of `node`. Raises what the state refuses, and what `propose` raises."""
        outcome = await self._replica.propose(
            RecordCertificate(
                request_id=self._request_id(),
                at_ms=self._clock.wall(),
                actor=f"node:{node}",
                node=node,
                certificate=listed,
            )
        )
        raise_refusal(outcome)

    def _sign(self, node: NodeId, csr: bytes) -> tuple[bytes, CertificateRecord]:
        authority = self._data_keys.signing()
        at_ms = self._clock.wall()
        certificate = sign_request(authority, node, csr, serial=x509.random_serial_number(), at_ms=at_ms)
        return certificate, listing_of(certificate, authority.fingerprint)

    def _request_id(self) -> RequestId:
        return RequestId(self._ids.fresh())


def listing_of(certificate: bytes, authority: str) -> CertificateRecord:
    """How the state lists a certificate that `authority` (fingerprint) signed."""
    parsed = load_certificate(certificate)
    return CertificateRecord(
        serial=f"{parsed.serial_number:x}",
        fingerprint=fingerprint_of(certificate),
        not_after_ms=lifetime_of(parsed)[1],
        authority=authority,
    )
