"""The CA of served names and its leaves, judged by the verifier of `cryptography`, which knows nothing of ours."""

from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from node.trust.authority import DAY_MS, Authority, encode_key, lifetime_of, load_certificate
from node.trust.leaves import LEAF_MS, can_be_certified, make_ingress_authority, make_leaf_request, sign_leaf
from orca.errors import InvalidRequestError
from orca.model.ids import ClusterId
from orca.model.units import WallMs

NOW_MS = WallMs(1_700_000_000_000)


def fresh_key() -> bytes:
    return encode_key(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ingress_authority(ClusterId("c-test"), fresh_key(), serial=7, at_ms=NOW_MS)


def leaf(authority: Authority, *names: str) -> x509.Certificate:
    return load_certificate(
        sign_leaf(authority, names, make_leaf_request(fresh_key()), serial=x509.random_serial_number(), at_ms=NOW_MS)
    )


def is_good(authority: Authority, certificate: x509.Certificate, name: str, at_ms: int = NOW_MS) -> bool:
    store = Store([load_certificate(authority.certificate)])
    try:
        subject: x509.DNSName | x509.IPAddress = x509.IPAddress(ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    try:
        PolicyBuilder().store(store).time(at).build_server_verifier(subject).verify(certificate, [])
    except VerificationError:
        return False
    return True


def test_a_leaf_is_good_for_its_names_for_a_week_and_for_nothing_else(authority: Authority) -> None:
    certificate = leaf(authority, "a.example", "*.b.example", "10.0.0.1")
    for name in ("a.example", "x.b.example", "10.0.0.1"):
        assert is_good(authority, certificate, name), name
    for name in ("b.example", "x.y.b.example", "c.example", "10.0.0.2"):
        assert not is_good(authority, certificate, name), name
    assert lifetime_of(certificate)[1] == NOW_MS + LEAF_MS == NOW_MS + 7 * DAY_MS
    assert is_good(authority, certificate, "a.example", NOW_MS + 7 * DAY_MS - 1000)
    assert not is_good(authority, certificate, "a.example", NOW_MS + 7 * DAY_MS + 1000)


def test_another_authority_of_the_same_cluster_is_not_believed(authority: Authority) -> None:
    other = make_ingress_authority(ClusterId("c-test"), fresh_key(), serial=8, at_ms=NOW_MS)
    assert not is_good(authority, leaf(other, "a.example"), "a.example")


def test_a_long_domain_is_certified_without_a_common_name(authority: Authority) -> None:
    name = "a" * 63 + "." + "b" * 30 + ".example"
    assert is_good(authority, leaf(authority, name), name)


@pytest.mark.parametrize("names", [(), ("",), ("a b.example",), ("a.*.example",), ("*",), ("a.example\n",), ("ä.de",)])
def test_what_is_no_name_is_refused(authority: Authority, names: tuple[str, ...]) -> None:
    assert not all(can_be_certified(name) for name in names) or not names
    with pytest.raises(InvalidRequestError, match="cannot be made"):
        leaf(authority, *names)


def test_a_request_that_is_damaged_or_for_another_kind_of_key_is_refused(authority: Authority) -> None:
    good = make_leaf_request(fresh_key())
    for wrong in (b"", good[:-1], good[:-1] + bytes([good[-1] ^ 1]), b"x" * 10_000):
        with pytest.raises(InvalidRequestError):
            sign_leaf(authority, ("a.example",), wrong, serial=9, at_ms=NOW_MS)
