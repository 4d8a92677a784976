"""A certificate authority for benches and tests: it signs for whoever asks, and keeps its keys in a folder.

What a cluster does about tokens, renewal and revocation is none of its affair: it makes certificates of the
form that nodes have, so that the mesh can be run without a cluster.
"""

import datetime
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.mesh.credentials import client_context, server_context
from orca.errors import ForbiddenError
from orca.model.ids import ClusterId, NodeId

_DAY: Final = datetime.timedelta(days=1)
_CA: Final = "ca.pem"
AUTHORITY: Final = "authority"
"""The folder that processes of one bench share."""
CLUSTER: Final = ClusterId("bench")


class Authority:
    """One cluster's: `folder` holds its key and certificate, and those of each node; made where they are missing."""

    def __init__(self, folder: Path, cluster: ClusterId) -> None:
        self.folder = folder
        self.cluster = cluster
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"orca {cluster}")])
        file = folder / _CA
        if file.exists():
            self._key = _private_key(file)
        else:
            self._key = ec.generate_private_key(ec.SECP256R1())
            _write(file, self._key, self._self_signed())

    @property
    def ca_path(self) -> Path:
        """Its certificate."""
        return self.folder / _CA

    def _self_signed(self) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(self._name).issuer_name(self._name)
        builder = builder.public_key(self._key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - _DAY).not_valid_after(now + 3650 * _DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, node: NodeId, *, days: float = 90, cluster: ClusterId | None = None) -> Path:
        """Key and chain of `node` in one file; with `days` below zero the certificate has expired."""
        file = self.folder / f"{node}.pem"
        now = datetime.datetime.now(datetime.UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
        uri = x509.UniformResourceIdentifier(f"orca://{cluster or self.cluster}/{node}")
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - 1000 * _DAY).not_valid_after(now + days * _DAY)
        builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        builder = builder.add_extension(usage, critical=False)
        _write(file, key, builder.sign(self._key, hashes.SHA256()))
        return file

    def credentials(self, node: NodeId) -> "IssuedCredentials":
        """What `node` runs its mesh with."""
        return IssuedCredentials(self, self.issue(node))


class IssuedCredentials:
    """Those of one node, whose key and chain are in `file`."""

    def __init__(self, authority: Authority, file: Path) -> None:
        self._cluster = authority.cluster
        self.server, self.client = server_context(), client_context()
        for context in (self.server, self.client):
            context.load_cert_chain(file)
            context.load_verify_locations(authority.ca_path)

    def server_context(self) -> ssl.SSLContext:
        """For the listener."""
        return self.server

    def client_context(self) -> ssl.SSLContext:
        """For dialling."""
        return self.client

    def authorize(self, certificate: bytes) -> NodeId:
        """The node that the certificate names; raises ForbiddenError."""
        cluster, node = names_in(certificate)
        if cluster != self._cluster:
            raise ForbiddenError(f"the certificate of {node} is of cluster {cluster}, and this is {self._cluster}")
        return node


def names_in(certificate: bytes) -> tuple[ClusterId, NodeId]:
    """Cluster and node of a certificate as DER; raises ForbiddenError when it names none."""
    parsed = x509.load_der_x509_certificate(certificate)
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise ForbiddenError("the certificate names no node") from error
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        cluster, _, node = uri.removeprefix("orca://").partition("/")
        if uri.startswith("orca://") and node:
            return ClusterId(cluster), NodeId(node)
    raise ForbiddenError("the certificate names no node")


def _private_key(file: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), f"{file} holds another kind of key"
    return key


def _write(file: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
