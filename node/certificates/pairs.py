"""A certificate that people bring, and its key: whether they fit each other, their names and their time. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from consensus.state.cluster import ClusterState
from node.proxy.certificates import Chain
from node.proxy.routes import normalize_host
from node.trust.authority import lifetime_of, show_time
from orca.errors import InvalidRequestError, InvalidSpecError, Problem
from orca.model.ids import SecretId
from orca.model.secrets import find_secret, ingress_secrets_of
from orca.model.spec import ServiceSpec
from orca.model.units import WallMs

RSA_BITS_MIN: Final = 2048
CHAIN_MAX: Final = 10
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A chain that may be shown until `ends_ms`."""

    chain: Chain
    ends_ms: WallMs


def domains_of(spec: ServiceSpec) -> tuple[str, ...]:
    """The domains of a service, as the proxy knows them."""
    return tuple(dict.fromkeys(normalize_host(route.domain) for route in spec.routes if route.domain is not None))


def read_pair(certificate: bytes, key: bytes, domains: Sequence[str], now_ms: WallMs) -> Pair:
    """The chain in two PEM texts, for `domains`; raises InvalidRequestError that says what does not fit."""
    certificates, private = _read_certificates(certificate), _read_key(key)
    leaf = certificates[0]
    if _public(leaf.public_key()) != _public(private.public_key()):
        other = next(
            (n for n, one in enumerate(certificates) if _public(one.public_key()) == _public(private.public_key())), 0
        )
        hint = f"; number {other + 1} in the text is: put it first" if other else ""
        raise InvalidRequestError(f"the certificate for {_subject(leaf)} is not for this key{hint}")
    _check_usage(leaf)
    begins_ms, ends_ms = lifetime_of(leaf)
    if now_ms >= ends_ms:
        raise InvalidRequestError(f"the certificate for {_subject(leaf)} has expired at {show_time(ends_ms)}")
    if now_ms < begins_ms:
        raise InvalidRequestError(f"the certificate for {_subject(leaf)} is not good before {show_time(begins_ms)}")
    names = _names_of(leaf)
    missing = [domain for domain in domains if not _covers(names, domain)]
    if missing:
        raise InvalidRequestError(
            f"the certificate is for {', '.join(names[:10]) or 'no name at all (subjectAltName)'} and not for "
            f"{', '.join(missing[:10])}"
        )
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem += b"".join(one.public_bytes(Encoding.PEM) for one in certificates)
    return Pair(chain=Chain(names=tuple(domains), pem=pem), ends_ms=ends_ms)


def check_pairs(
    state: ClusterState,
    specs: Sequence[ServiceSpec],
    value_of: Callable[[SecretId], bytes | None],
    arriving: Iterable[SecretId],
    now_ms: WallMs,
) -> None:
    """Raise InvalidSpecError for what cannot be shown. What `value_of` does not know here is not looked at.

    `arriving` are secrets that are not in `state` yet.
    """
    known = {*arriving}
    problems = tuple(_problems(specs, lambda one: one in known or one in state.secrets, value_of, now_ms))
    if problems:
        raise InvalidSpecError(f"{problems[0].message}; nothing was changed", problems=problems)


def _problems(
    specs: Sequence[ServiceSpec],
    exists: Callable[[SecretId], bool],
    value_of: Callable[[SecretId], bytes | None],
    now_ms: WallMs,
) -> Iterator[Problem]:
    for number, spec in enumerate(specs):
        tls = spec.ingress.tls
        if tls is None:
            continue
        ids = [find_secret(spec.project, name, exists) for name in (tls.certificate, tls.key)]
        values = [None if one is None else value_of(one) for one in ids]
        if values[0] is None or values[1] is None:
            continue
        try:
            read_pair(values[0], values[1], domains_of(spec), now_ms)
        except InvalidRequestError as error:
            yield Problem(
                key=f"services[{number}].ingress.tls",
                message=f"{spec.name}: {error.message}",
                allowed="a certificate for the domains of the service, and its own key",
            )


def secrets_in_use(state: ClusterState, spec: ServiceSpec) -> tuple[SecretId, ...] | None:
    """The two secrets of the certificate of `spec`; None while one of them does not exist."""
    tls = spec.ingress.tls
    assert tls is not None, "only who brings a certificate has secrets of it"
    found = [find_secret(spec.project, name, state.secrets.__contains__) for name in (tls.certificate, tls.key)]
    return tuple(one for one in found if one is not None) if None not in found else None


def uses(state: ClusterState, spec: ServiceSpec, secret: SecretId) -> bool:
    """Whether `secret` belongs to the certificate of `spec`."""
    names = ingress_secrets_of(spec)
    return secret in {find_secret(spec.project, name, state.secrets.__contains__) for name in names}


def _read_certificates(text: bytes) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(text)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidRequestError(
            "the certificate cannot be read; PEM is right, which begins with -----BEGIN CERTIFICATE-----"
        ) from error
    if len(found) > CHAIN_MAX:
        raise InvalidRequestError(f"there are {len(found)} certificates in one text; at most {CHAIN_MAX} make a chain")
    return found


def _read_key(text: bytes) -> PrivateKey:
    try:
        key = load_pem_private_key(text, None)
    except TypeError as error:
        raise InvalidRequestError(
            "the key is locked with a passphrase, which nobody would type here; give it without one"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidRequestError(
            "the key cannot be read; PEM is right, which begins with -----BEGIN PRIVATE KEY----- or like it"
        ) from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < RSA_BITS_MIN:
        raise InvalidRequestError(f"the RSA key has {key.key_size} bits; clients want {RSA_BITS_MIN} or more")
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey)):
        raise InvalidRequestError(
            "the key is of a kind that TLS has no use for; RSA, P-256, P-384 or Ed25519 are right"
        )
    return key


def _check_usage(leaf: x509.Certificate) -> None:
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in usages and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages:
        raise InvalidRequestError(f"the certificate for {_subject(leaf)} is not made for servers (extendedKeyUsage)")


def _names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    addresses = (str(one) for one in names.get_values_for_type(x509.IPAddress))
    return tuple(dict.fromkeys([name.lower() for name in names.get_values_for_type(x509.DNSName)] + [*addresses]))


def _covers(names: Sequence[str], domain: str) -> bool:
    """Whether a client that asks for `domain` takes a certificate for `names` (RFC 6125 §6.4)."""
    try:
        return str(ip_address(domain.strip("[]"))) in names
    except ValueError:
        pass
    _, _, parent = domain.partition(".")
    return domain in names or (not domain.startswith("*.") and f"*.{parent}" in names)


def _subject(certificate: x509.Certificate) -> str:
    names = _names_of(certificate)
    return names[0] if names else certificate.subject.rfc4514_string() or "nobody"


def _public(key: object) -> bytes:
    """A public key to compare; empty for kinds that no leaf of ours has."""
    if isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey, ed25519.Ed25519PublicKey)):
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b""
