"""The node's TLS: what it shows, and whom it believes by the state of now."""

import ssl
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from consensus.state.cluster import ClusterState
from node.chain_file import chain_file
from node.mesh import credentials as mesh
from node.trust.authority import fingerprint_of, is_signed_by, lifetime_of, load_certificate, load_key
from node.trust.judging import judge_certificate
from node.trust.kept import NodeKeys, OwnTrust
from node.trust.renewal import Lifetime
from orca.errors import StoreCorruptError
from orca.model.ids import ClusterId, NodeId
from orca.model.units import WallMs


class NodeCredentials:
    """`Credentials` of the mesh, from the node's own keys and the replicated state.

    `is_current` says whether this node's state is as good as the leader's, see `judging`.
    Contexts are made anew when the certificate or the authorities have changed.
    """

    def __init__(
        self,
        cluster: ClusterId,
        keys: NodeKeys,
        own: OwnTrust,
        *,
        state: Callable[[], ClusterState],
        wall: Callable[[], WallMs],
        is_current: Callable[[], bool],
    ) -> None:
        self.cluster = cluster
        self.keys = keys
        self.own = own
        self._state = state
        self._wall = wall
        self._is_current = is_current
        self._made_for: tuple[object, ...] = ()
        self._lifetime: tuple[object, Lifetime] | None = None
        self._contexts: tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext] | None = None

    def anchors(self) -> tuple[bytes, ...]:
        """The authorities that are believed: the state's, or those of the join while there is no state yet."""
        known = self._state().authorities
        return tuple(one.certificate for one in known.values()) or self.own.authorities

    def cross_certificates(self) -> tuple[bytes, ...]:
        """By which who believes an older authority believes a newer one."""
        known = self._state().authorities
        return tuple(one.cross for one in known.values() if one.cross) if known else self.own.cross

    def server_context(self) -> ssl.SSLContext:
        """For who connects to this node."""
        return self._fresh_contexts()[0]

    def client_context(self) -> ssl.SSLContext:
        """For whom this node connects to."""
        return self._fresh_contexts()[1]

    def web_context(self) -> ssl.SSLContext:
        """For the API: who calls shows a token, not a certificate."""
        return self._fresh_contexts()[2]

    def authorize(self, certificate: bytes) -> NodeId:
        """Whose certificate it is; raises ForbiddenError."""
        return judge_certificate(
            certificate,
            self._state(),
            self.anchors(),
            cluster=self.cluster,
            now_ms=self._wall(),
            is_current=self._is_current(),
        )

    def lifetime(self) -> Lifetime:
        """Of the node's own certificate."""
        known = (*self.anchors(), *self.own.authorities)
        read_from = (self.own.certificate, known)
        if self._lifetime is None or self._lifetime[0] != read_from:  # to check a signature takes half a millisecond
            parsed = load_certificate(self.own.certificate)
            begins, ends = lifetime_of(parsed)
            signer = next((one for one in known if is_signed_by(parsed, load_certificate(one))), b"")
            authority = fingerprint_of(signer) if signer else ""
            self._lifetime = (read_from, Lifetime(not_before_ms=begins, not_after_ms=ends, authority=authority))
        return self._lifetime[1]

    def _fresh_contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext]:
        wanted = (self.own.certificate, self.anchors(), self.cross_certificates())
        if self._contexts is None or wanted != self._made_for:
            contexts = (mesh.server_context(), mesh.client_context(), _web_context())
            authorities = "".join(pem_of(one) for one in self.anchors())
            with chain_file(self._chain()) as path:
                for context in contexts:
                    context.load_cert_chain(path)
                    context.load_verify_locations(cadata=authorities)
            self._contexts, self._made_for = contexts, wanted
        return self._contexts

    def _chain(self) -> bytes:
        key = load_key(self.keys.tls_key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        shown = [self.own.certificate, *self.cross_certificates()]
        return key + "".join(pem_of(one) for one in shown).encode()


def _web_context() -> ssl.SSLContext:
    """TLS for browsers, `curl` and our own clients, to be given a chain."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def pem_of(certificate: bytes) -> str:
    """A certificate in DER as PEM; raises StoreCorruptError for one that is none."""
    try:
        return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()
    except ValueError as error:
        raise StoreCorruptError("a certificate in this node's store cannot be read") from error
