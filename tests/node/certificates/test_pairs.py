"""What people bring as a certificate: what fits is shown, and what does not is told precisely."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from consensus.state.cluster import ClusterState
from node.certificates.pairs import check_pairs, read_pair
from node.sources import SystemClock
from node.trust.authority import lifetime_of
from orca.errors import InvalidRequestError, InvalidSpecError
from orca.model.ids import SecretId
from orca.model.ingress import IngressSpec, TlsSpec
from orca.model.spec import RouteSpec
from orca.model.units import WallMs
from tests.certificates import TestAuthority, pem_of_key
from tests.consensus.intent import make_spec

AUTHORITY = TestAuthority()
NOW_MS = SystemClock().wall()


def refusal(certificate: bytes, key: bytes, *domains: str, at_ms: int = NOW_MS) -> str:
    with pytest.raises(InvalidRequestError) as refused:
        read_pair(certificate, key, domains or ("a.example",), WallMs(at_ms))
    return refused.value.message


@pytest.mark.parametrize("key", [None, rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())])
def test_a_certificate_with_its_own_key_is_shown_for_the_domains_of_the_service_alone(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None,
) -> None:
    certificate, private = AUTHORITY.certify("a.example", "*.b.example", "other.example", key=key)
    pair = read_pair(certificate + AUTHORITY.pem, private, ("a.example", "x.b.example", "*.b.example"), NOW_MS)
    assert pair.chain.names == ("a.example", "x.b.example", "*.b.example")
    assert pair.chain.pem.count(b"BEGIN CERTIFICATE") == 2
    assert pair.chain.pem.startswith(b"-----BEGIN PRIVATE KEY")
    assert pair.ends_ms == lifetime_of(x509.load_pem_x509_certificate(certificate))[1]


def test_what_does_not_fit_is_said() -> None:
    certificate, key = AUTHORITY.certify("a.example")
    other = pem_of_key(ec.generate_private_key(ec.SECP256R1()))
    assert refusal(certificate, other) == "the certificate for a.example is not for this key"
    assert "number 2 in the text is: put it first" in refusal(AUTHORITY.pem + certificate, key)
    assert refusal(certificate, key, "a.example", "b.example") == (
        "the certificate is for a.example and not for b.example"
    )
    assert "not for *.example" in refusal(certificate, key, "*.example")
    wildcard, its_key = AUTHORITY.certify("*.b.example")
    assert "not for b.example, x.y.b.example" in refusal(wildcard, its_key, "b.example", "c.b.example", "x.y.b.example")


def test_time_is_looked_at() -> None:
    certificate, key = AUTHORITY.certify("a.example", ends=timedelta(hours=1))
    assert "has expired at 20" in refusal(certificate, key, at_ms=NOW_MS + 3 * 3_600_000)
    later, its_key = AUTHORITY.certify("a.example", begins=timedelta(hours=2))
    assert "is not good before 20" in refusal(later, its_key)


def test_what_is_no_pem_or_no_key_for_tls_is_said() -> None:
    certificate, key = AUTHORITY.certify("a.example")
    for nothing in (b"", b"\xff", b"hello", key):
        assert "the certificate cannot be read; PEM is right" in refusal(nothing, key)
    for nothing in (b"", b"\xff", certificate):
        assert "the key cannot be read; PEM is right" in refusal(certificate, nothing)
    made = ec.generate_private_key(ec.SECP256R1())
    locked = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    assert "locked with a passphrase" in refusal(certificate, locked)
    small = rsa.generate_private_key(65537, 1024)
    assert "1024 bits" in refusal(certificate, pem_of_key(small))
    odd = x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert "of a kind that TLS has no use for" in refusal(certificate, odd)
    assert "at most 10 make a chain" in refusal(certificate * 11, key)


def test_a_name_only_in_the_subject_is_none() -> None:
    """RFC 6125: clients look at subjectAltName and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, _ = AUTHORITY.certify("b.example", key=key)
    parsed = x509.load_pem_x509_certificate(certificate)
    built = x509.CertificateBuilder().subject_name(AUTHORITY.name).issuer_name(AUTHORITY.name)
    built = built.public_key(key.public_key()).serial_number(1)
    built = built.not_valid_before(parsed.not_valid_before_utc).not_valid_after(parsed.not_valid_after_utc)
    from cryptography.hazmat.primitives.hashes import SHA256

    bare = built.sign(AUTHORITY.key, SHA256()).public_bytes(Encoding.PEM)
    assert "for no name at all (subjectAltName)" in refusal(bare, pem_of_key(key))


def test_a_deploy_is_told_which_service_has_what_is_wrong_and_what_cannot_be_opened_is_left() -> None:
    certificate, key = AUTHORITY.certify("a.example")
    tls = IngressSpec(tls=TlsSpec(certificate="crt", key="key"))
    good = make_spec("web", routes=(RouteSpec(domain="a.example"),), ingress=tls)
    bad = make_spec("other", routes=(RouteSpec(domain="b.example"),), ingress=tls)
    values = {SecretId("default/crt"): certificate, SecretId("/key"): key}
    check_pairs(ClusterState(), (good, make_spec("plain")), values.get, values, NOW_MS)
    check_pairs(ClusterState(), (bad,), lambda _: None, values, NOW_MS)
    with pytest.raises(InvalidSpecError, match=r"other: the certificate is for a\.example and not for b") as refused:
        check_pairs(ClusterState(), (good, bad), values.get, values, NOW_MS)
    assert [problem.key for problem in refused.value.problems] == ["services[1].ingress.tls"]
