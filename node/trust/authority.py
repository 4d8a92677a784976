"""The cluster's certificate authority: made, and what it signs. Pure: keys, serials and times are given.

All keys are P-256. The CA's certificate is self-signed and good for ten years; a node's for ninety days, for
both ends of a connection, and names node and cluster in a URI `orca://<cluster>/<node>`. Both begin five
minutes before they are made, for clocks that are a little behind. When one authority follows another, the older
signs a certificate for the newer (`cross_sign`), by which a node that was away believes it.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orca.errors import InvalidRequestError, PeerProtocolError, StoreCorruptError
from orca.model.ids import ClusterId, NodeId
from orca.model.units import WallMs

DAY_MS: Final = 86_400_000
AUTHORITY_MS: Final = 10 * 365 * DAY_MS
CERTIFICATE_MS: Final = 90 * DAY_MS
BACKDATED_MS: Final = 5 * 60_000
CSR_BYTES_MAX: Final = 4_096
_SERVES_BOTH: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """A CA with its private key; both in DER."""

    cluster: ClusterId
    certificate: bytes
    key: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its certificate in hex."""
        return fingerprint_of(self.certificate)

    def __repr__(self) -> str:
        return f"Authority(cluster={self.cluster}, fingerprint={self.fingerprint})"


def fingerprint_of(certificate: bytes) -> str:
    """SHA-256 of a certificate (DER) in hex."""
    return hashlib.sha256(certificate).hexdigest()


def key_fingerprint(key: bytes) -> str:
    """SHA-256 of the public half of a private key (PKCS 8, DER) in hex: how the state names a node's key."""
    return hashlib.sha256(public_bytes(load_key(key).public_key())).hexdigest()


def certified_key(certificate: x509.Certificate) -> str:
    """The same of the key that a certificate is for; empty when that is no P-256 key."""
    public = certificate.public_key()
    return hashlib.sha256(public_bytes(public)).hexdigest() if isinstance(public, ec.EllipticCurvePublicKey) else ""


def public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in DER (PKCS 8, in clear)."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def load_key(key: bytes) -> ec.EllipticCurvePrivateKey:
    """The private key in `key`; raises StoreCorruptError for anything else than P-256."""
    try:
        loaded = load_der_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StoreCorruptError("a private key cannot be read; the node refuses to guess") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise StoreCorruptError("a private key is no P-256 key; the node refuses to guess")
    return loaded


def load_certificate(certificate: bytes) -> x509.Certificate:
    """The certificate in `certificate` (DER); raises PeerProtocolError for anything else."""
    try:
        return x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        raise PeerProtocolError(f"what should be a certificate cannot be read: {error}") from error


def make_authority(cluster: ClusterId, key: bytes, *, serial: int, at_ms: WallMs) -> Authority:
    """A CA for `cluster` that believes in itself."""
    private = load_key(key)
    name = _authority_name(cluster, private.public_key())
    built = _authority_builder(name, private.public_key(), serial, at_ms).issuer_name(name).sign(private, SHA256())
    return Authority(cluster=cluster, certificate=built.public_bytes(Encoding.DER), key=key)


def cross_sign(older: Authority, newer: Authority, *, serial: int, at_ms: WallMs) -> bytes:
    """A certificate for the key of `newer`, signed by `older`."""
    private, issuer = load_key(older.key), load_certificate(older.certificate)
    subject = load_certificate(newer.certificate)
    public = load_key(newer.key).public_key()
    built = _authority_builder(subject.subject, public, serial, at_ms).issuer_name(issuer.subject)
    built = built.add_extension(issuer_id(issuer), critical=False)
    return built.sign(private, SHA256()).public_bytes(Encoding.DER)


def make_request(cluster: ClusterId, node: NodeId, key: bytes) -> bytes:
    """The certificate signing request of `node` (DER)."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_node_name(node))
        .add_extension(_node_uri(cluster, node), critical=False)
        .sign(load_key(key), SHA256())
        .public_bytes(Encoding.DER)
    )


def read_request(request: bytes, cluster: ClusterId, node: NodeId) -> str:
    """The fingerprint of the key in `request`. Raises InvalidRequestError for one that is not `node`'s own."""
    public = requested_key(request)
    csr = x509.load_der_x509_csr(request)
    if not csr.is_signature_valid:
        raise InvalidRequestError("the certificate request is not signed with its own key; start the join anew")
    if _uri_in(csr.extensions) != f"orca://{cluster}/{node}":
        raise InvalidRequestError(f"the certificate request is for another node than {node} of {cluster}")
    return hashlib.sha256(public_bytes(public)).hexdigest()


def requested_key(request: bytes) -> ec.EllipticCurvePublicKey:
    """The key that a request is for. Raises InvalidRequestError for anything else than P-256."""
    if len(request) > CSR_BYTES_MAX:
        raise InvalidRequestError(f"the certificate request has {len(request)} bytes; {CSR_BYTES_MAX} are enough")
    try:
        public = x509.load_der_x509_csr(request).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidRequestError(f"the certificate request cannot be read: {error}") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise InvalidRequestError("the certificate request is not for a P-256 key; nodes have no other")
    return public


def sign_request(authority: Authority, node: NodeId, request: bytes, *, serial: int, at_ms: WallMs) -> bytes:
    """The certificate (DER) of `node` for the key in `request`, whatever else the request asks for."""
    read_request(request, authority.cluster, node)
    issuer = load_certificate(authority.certificate)
    public = requested_key(request)
    return (
        x509.CertificateBuilder()
        .subject_name(_node_name(node))
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(time_of(at_ms - BACKDATED_MS))
        .not_valid_after(time_of(at_ms + CERTIFICATE_MS))
        .add_extension(_node_uri(authority.cluster, node), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(_SERVES_BOTH, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(issuer_id(issuer), critical=False)
        .sign(load_key(authority.key), SHA256())
        .public_bytes(Encoding.DER)
    )


def identity_in(certificate: x509.Certificate) -> tuple[ClusterId, NodeId] | None:
    """Cluster and node that a certificate names, None when it names none."""
    scheme, _, rest = _uri_in(certificate.extensions).partition("://")
    cluster, slash, node = rest.partition("/")
    return (ClusterId(cluster), NodeId(node)) if scheme == "orca" and slash and cluster and node else None


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer`, which has to be a CA, signed `certificate`; times are not looked at."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, UnsupportedAlgorithm):
        return False
    return constraints.ca


def lifetime_of(certificate: x509.Certificate) -> tuple[WallMs, WallMs]:
    """From when and until when it is good."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return WallMs(round(begin.timestamp() * 1000)), WallMs(round(end.timestamp() * 1000))


def show_time(at_ms: int) -> str:
    """A time for people."""
    return time_of(at_ms).strftime("%Y-%m-%d %H:%M:%S UTC")


def _authority_builder(
    name: x509.Name, public: ec.EllipticCurvePublicKey, serial: int, at_ms: WallMs
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(time_of(at_ms - BACKDATED_MS))
        .not_valid_after(time_of(at_ms + AUTHORITY_MS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _authority_name(cluster: ClusterId, public: ec.EllipticCurvePublicKey) -> x509.Name:
    """Its own for each key: two authorities of one cluster stand beside each other for a while."""
    digest = x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()[:16]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"orca {cluster}"[:64]),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, digest),
        ]
    )


def _node_name(node: NodeId) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(node)[:64])])


def _node_uri(cluster: ClusterId, node: NodeId) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"orca://{cluster}/{node}")])


def _uri_in(extensions: x509.Extensions) -> str:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0] if len(uris) == 1 else ""


def issuer_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """How what `issuer` signs names its key."""
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """For an authority, or for an end of a connection."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def time_of(at_ms: int) -> datetime:
    """As certificates count it: in whole seconds."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at_ms // 1000)
