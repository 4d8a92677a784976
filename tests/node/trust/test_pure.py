"""Sealing, wrapping, renewal, the budget of failures, duties and the form of tokens."""

import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from consensus.state.commands import PutAuthority, PutDataKey, SignBy
from node.trust.attempts import ADDRESS_BURST, ADDRESSES_MAX, TOTAL_BURST, Attempts
from node.trust.duties import is_wrapper, succession_of, wrappings_due
from node.trust.renewal import Lifetime, due_at_ms, renew_at_ms, retry_s
from node.trust.sealing import open_content, seal_content, unwrap_key, wrap_key
from orca.errors import StoreCorruptError
from orca.model.ids import ClusterId, NodeId
from orca.model.join_token import JoinToken, encode_random, parse_join_token, short_fingerprint
from orca.model.trust import NodeRole
from orca.model.units import Instant, WallMs
from tests.consensus.intent import Cluster
from tests.consensus.state.asking import admit, done, make_join_token, redeem
from tests.consensus.state.test_authorities import NEW, OLD, cluster_with_authority, put, signed

KEY, NONCE = bytes(range(32)), bytes(12)
BOUND: dict[str, Any] = {"purpose": "secret", "subject": "shop/db", "version": 3}


def test_what_was_sealed_opens_for_its_purpose_subject_and_version_only() -> None:
    sealed = seal_content(KEY, b"hunter2", nonce=NONCE, **BOUND)
    assert open_content(KEY, sealed, **BOUND) == b"hunter2"
    assert b"hunter2" not in sealed
    for other in ({"purpose": "key"}, {"subject": "shop/dc"}, {"version": 4}):
        with pytest.raises(StoreCorruptError, match="cannot be opened"):
            open_content(KEY, sealed, **{**BOUND, **other})
    for damaged in (b"", sealed[:11], sealed[:-1], sealed[:-1] + b"x"):
        with pytest.raises(StoreCorruptError):
            open_content(KEY, damaged, **BOUND)


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_no_two_bindings_are_alike(purpose: str, subject: str, other_purpose: str, other_subject: str) -> None:
    sealed = seal_content(KEY, b"x", purpose=purpose, subject=subject, version=1, nonce=NONCE)
    if (purpose, subject) != (other_purpose, other_subject):
        with pytest.raises(StoreCorruptError):
            open_content(KEY, sealed, purpose=other_purpose, subject=other_subject, version=1)


def test_a_data_key_opens_for_the_node_that_it_was_wrapped_for_only() -> None:
    private, stranger = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    where: dict[str, Any] = {"cluster": ClusterId("c-1"), "node": NodeId("n-1"), "version": 2}
    public = private.public_key().public_bytes_raw()
    wrapped = wrap_key(KEY, public, ephemeral=X25519PrivateKey.generate(), **where)
    assert unwrap_key(wrapped, private, **where) == KEY
    with pytest.raises(StoreCorruptError):
        unwrap_key(wrapped, stranger, **where)
    for other in ({"cluster": ClusterId("c-2")}, {"node": NodeId("n-2")}, {"version": 3}):
        with pytest.raises(StoreCorruptError, match="was not wrapped for"):
            unwrap_key(wrapped, private, **{**where, **other})
    for damaged in (b"", wrapped[:31], bytes(80)):
        with pytest.raises(StoreCorruptError):
            unwrap_key(damaged, private, **where)


DAY_MS = 86_400_000
LIFE = Lifetime(not_before_ms=WallMs(0), not_after_ms=WallMs(90 * DAY_MS), authority="a")


def test_a_certificate_is_renewed_at_two_thirds_of_its_life_a_little_apart() -> None:
    assert renew_at_ms(LIFE, 0.0) == 60 * DAY_MS
    assert renew_at_ms(LIFE, 1.0) == pytest.approx(55.5 * DAY_MS)
    assert due_at_ms(LIFE, 0.0, "a", 0) == 60 * DAY_MS
    assert due_at_ms(LIFE, 0.0, "", 0) == 60 * DAY_MS, "nobody signs yet"


def test_a_certificate_of_another_authority_is_renewed_as_soon_as_the_new_one_is_believed() -> None:
    assert due_at_ms(LIFE, 0.5, "b", 7_000) == 7_000
    assert due_at_ms(LIFE, 0.0, "a", 70 * DAY_MS) == 70 * DAY_MS, "one that signs again is followed no sooner"


def test_a_renewal_that_fails_waits_longer_each_time_and_an_hour_at_most() -> None:
    assert [retry_s(number, 1.0) for number in (1, 2, 3)] == [1.0, 2.0, 4.0]
    assert retry_s(50, 1.0) == 3600.0
    assert 1800.0 <= retry_s(50, 0.0) <= retry_s(50, 0.7)


def test_an_address_may_fail_ten_times_and_then_ten_times_a_minute() -> None:
    attempts = Attempts()
    now = Instant(100.0)
    for _ in range(int(ADDRESS_BURST)):
        assert attempts.wait_s("10.0.0.1", now) == 0
        attempts.failed("10.0.0.1", now)
    assert attempts.wait_s("10.0.0.1", now) == pytest.approx(6.0)
    assert attempts.wait_s("10.0.0.2", now) == 0, "others may still try"
    assert attempts.wait_s("10.0.0.1", Instant(106.1)) == 0


def test_an_ipv6_network_of_one_person_counts_as_one_address() -> None:
    attempts = Attempts()
    for number in range(int(ADDRESS_BURST)):
        attempts.failed(f"2001:db8::{number:x}", Instant(1.0))
    assert attempts.wait_s("2001:db8::ffff:1", Instant(1.0)) > 0
    assert attempts.wait_s("2001:db8:0:1::1", Instant(1.0)) == 0
    attempts.failed("::ffff:10.0.0.1", Instant(1.0))
    assert attempts.wait_s("no address", Instant(1.0)) == 0


def test_ten_thousand_addresses_are_bounded_in_memory_and_in_all() -> None:
    attempts = Attempts()
    now = Instant(1.0)
    for number in range(10_000):
        attempts.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", now)
    assert len(attempts) == ADDRESSES_MAX
    assert attempts.wait_s("10.0.39.15", now) > 0, "all together have used up the budget"
    assert attempts.wait_s("10.99.0.1", now) == 0, "who has not failed pays for nobody"
    assert attempts.wait_s("10.0.39.15", Instant(now + TOTAL_BURST)) == 0


def test_every_member_is_to_open_the_data_keys_and_no_worker() -> None:
    cluster = Cluster()
    admit(cluster, "n-1", wrap_key=b"1" * 32)
    done(cluster, PutDataKey, version=1, wrapped={NodeId("n-1"): b"w"})
    assert not wrappings_due(cluster.state)
    make_join_token(cluster, "t1", uses=2)
    make_join_token(cluster, "t2", role=NodeRole.WORKER)
    redeem(cluster, "n-2", wrap_key=b"2" * 32)
    redeem(cluster, "n-3", token="t2", wrap_key=b"3" * 32)
    (due,) = wrappings_due(cluster.state)
    assert dict(due.wrap_for) == {"n-2": b"2" * 32}
    nobody: frozenset[NodeId] = frozenset()
    one, two = NodeId("n-1"), NodeId("n-2")
    assert is_wrapper(cluster.state, 1, one, one, nobody)
    assert is_wrapper(cluster.state, 1, one, two, nobody), "the leader cannot, so who can does"
    assert not is_wrapper(cluster.state, 1, two, two, nobody)


def test_an_authority_follows_when_it_is_the_newest_and_the_old_one_goes_when_nobody_needs_it() -> None:
    cluster = cluster_with_authority()
    assert succession_of(cluster.state).follow == ""
    cluster.at_ms += 1
    done(cluster, PutAuthority, **put(b"new"))
    assert succession_of(cluster.state).follow == NEW
    done(cluster, SignBy, authority=NEW)
    due = succession_of(cluster.state)
    assert (due.follow, due.drop, due.waiting) == ("", (), ("n-1", "n-2"))
    admit(cluster, "n-1", certificate=signed("3", NEW))
    admit(cluster, "n-2", certificate=signed("4", NEW))
    assert succession_of(cluster.state).drop == (OLD,)


def test_a_token_is_read_as_it_was_written() -> None:
    token = JoinToken(
        fingerprint=short_fingerprint("ab" * 32),
        id="abcdefgh",  # type: ignore[arg-type]
        secret=encode_random(os.urandom(16)),
    )
    assert parse_join_token(f"  {token.text()}\n") == token
    assert len(token.secret_hash) == 32


@pytest.mark.parametrize("text", ["", "orca-", "orca-abc-def-ghi", "ORCA-" + "A" * 70, "x" * 500])
def test_what_is_no_token_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="no join token") as caught:
        parse_join_token(text)
    assert len(text) < 6 or text not in str(caught.value)
