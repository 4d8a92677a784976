"""Certificates for served names: their CA, and what it signs. Pure: keys, serials and times are given.

The CA is not that of the nodes: who trusts it for web pages lets nobody into the cluster. Its certificates live for a
week, for names that people wrote into services and for the node's own addresses, and begin an hour early, for clocks
that are behind.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.trust.authority import (
    AUTHORITY_MS,
    DAY_MS,
    Authority,
    issuer_id,
    load_certificate,
    load_key,
    requested_key,
    time_of,
    usage,
)
from orca.errors import InvalidRequestError
from orca.model.ids import ClusterId
from orca.model.units import WallMs

LEAF_MS: Final = 7 * DAY_MS
BACKDATED_MS: Final = 3_600_000
NAMES_MAX: Final = 100
"""In one certificate."""
_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


def make_ingress_authority(cluster: ClusterId, key: bytes, *, serial: int, at_ms: WallMs) -> Authority:
    """A CA for served names that believes in itself; it may sign no further CA."""
    private = load_key(key)
    public = private.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"orca {cluster}"[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"orca ingress {identifier.digest.hex()[:16]}"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(time_of(at_ms - BACKDATED_MS))
        .not_valid_after(time_of(at_ms + AUTHORITY_MS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(private, SHA256())
    )
    return Authority(cluster=cluster, certificate=certificate.public_bytes(Encoding.DER), key=key)


def make_leaf_request(key: bytes) -> bytes:
    """Asks for certificates for `key` (DER); the names are said beside it."""
    nobody = x509.Name([])
    request = x509.CertificateSigningRequestBuilder().subject_name(nobody).sign(load_key(key), SHA256())
    return request.public_bytes(Encoding.DER)


def can_be_certified(name: str) -> bool:
    """Whether `name` may stand in a certificate: a plain domain, `*.domain`, or an address."""
    return _NAME.fullmatch(name) is not None or _is_address(name)


def sign_leaf(authority: Authority, names: Iterable[str], request: bytes, *, serial: int, at_ms: WallMs) -> bytes:
    """A certificate (DER) for `names` and the key in `request`, whatever else the request asks for.

    Raises InvalidRequestError for names that cannot stand in one, and for a request that its key did not sign.
    """
    wanted = tuple(dict.fromkeys(names))
    wrong = [name for name in wanted if not can_be_certified(name)]
    if wrong or not 0 < len(wanted) <= NAMES_MAX:
        raise InvalidRequestError(
            f"a certificate for {', '.join(map(repr, wrong[:3])) or f'{len(wanted)} names'} cannot be made; "
            f"1 to {NAMES_MAX} domains or addresses are right"
        )
    public = requested_key(request)
    if not x509.load_der_x509_csr(request).is_signature_valid:
        raise InvalidRequestError("the certificate request is not signed with its own key")
    issuer = load_certificate(authority.certificate)
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, wanted[0])] if len(wanted[0]) <= 64 else []
    shown = x509.SubjectAlternativeName([_general_name(name) for name in wanted])
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(time_of(at_ms - BACKDATED_MS))
        .not_valid_after(time_of(at_ms + LEAF_MS))
        .add_extension(shown, critical=not subject)  # RFC 5280 §4.1.2.6
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(issuer_id(issuer), critical=False)
        .sign(load_key(authority.key), SHA256())
        .public_bytes(Encoding.DER)
    )


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _general_name(name: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(name)) if _is_address(name) else x509.DNSName(name)
