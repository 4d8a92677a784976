"""Certificates for tests: a CA of the moment and what it signs."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def pem_of_key(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class TestAuthority:
    """Signs for any name."""

    __test__ = False

    def __init__(self, name: str = "a CA for tests") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _named(name)
        now = datetime.now(UTC)
        built = x509.CertificateBuilder().subject_name(self.name).issuer_name(self.name)
        built = built.public_key(self.key.public_key()).serial_number(x509.random_serial_number())
        built = built.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=90))
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        built = built.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        self.certificate = built.sign(self.key, SHA256())
        self.pem = self.certificate.public_bytes(Encoding.PEM)

    def certify(
        self, *names: str, key: PrivateKey | None = None, begins: timedelta | None = None, ends: timedelta | None = None
    ) -> tuple[bytes, bytes]:
        """A certificate for `names` and its private key, both PEM; good from `begins` to `ends` from now."""
        private = key if key is not None else ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        built = x509.CertificateBuilder().subject_name(_named(names[0])).issuer_name(self.name)
        built = built.public_key(private.public_key()).serial_number(x509.random_serial_number())
        built = built.not_valid_before(now + (begins if begins is not None else timedelta(hours=-1)))
        built = built.not_valid_after(now + (ends if ends is not None else timedelta(days=60)))
        built = built.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        built = built.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        built = built.add_extension(issuer, critical=False)
        return built.sign(self.key, SHA256()).public_bytes(Encoding.PEM), pem_of_key(private)

    def chain(self, *names: str, key: PrivateKey | None = None) -> bytes:
        """The same in one PEM, the key first."""
        certificate, private = self.certify(*names, key=key)
        return private + certificate

    def client_context(self) -> ssl.SSLContext:
        """Of somebody who trusts this authority and nobody else."""
        return ssl.create_default_context(cadata=self.pem.decode())
