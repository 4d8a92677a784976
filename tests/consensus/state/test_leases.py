"""One holder at a time, by a clock that cannot jump; each new holder has a larger number."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.state.applying.leases import DRIFT, LeaseClock, expirable, holder_ttl_s
from consensus.state.cluster import LeaseRecord, Outcome
from consensus.state.commands import (
    AcquireLease,
    BeginEpoch,
    Command,
    ExpireLeases,
    LeaseRef,
    LeaveNode,
    ReleaseLeases,
    RenewLeases,
)
from orca.model.ids import LeaseEpoch, LeaseName, NodeId
from orca.model.units import Instant, WallMs
from tests.consensus.intent import Cluster
from tests.consensus.state.asking import admit, done

NAME = LeaseName("service/default/worker")
ONE, TWO = NodeId("n-1"), NodeId("n-2")
TTL_MS = 15_000
OVER_MS = TTL_MS + int(TTL_MS * DRIFT)


def two_nodes() -> Cluster:
    cluster = Cluster()
    admit(cluster, ONE)
    admit(cluster, TWO)
    return cluster


def acquire(cluster: Cluster, clock_ms: int, node: NodeId = ONE, holder: str = "", **fields: Any) -> Outcome:
    plain = {"lease": NAME, "node": node, "holder": holder or f"copy on {node}", "ttl_ms": TTL_MS}
    return cluster.apply(AcquireLease(at_ms=WallMs(1), clock_ms=clock_ms, **{**plain, **fields}))


def held(cluster: Cluster) -> LeaseRecord:
    return cluster.state.leases[NAME]


def ref(cluster: Cluster) -> LeaseRef:
    return LeaseRef(lease=NAME, epoch=held(cluster).epoch)


def renew(cluster: Cluster, refs: tuple[LeaseRef, ...], clock_ms: int, node: NodeId = ONE) -> Outcome:
    return cluster.apply(RenewLeases(at_ms=WallMs(1), node=node, leases=refs, clock_ms=clock_ms))


def expire(cluster: Cluster, refs: tuple[LeaseRef, ...], clock_ms: int) -> Outcome:
    return cluster.apply(ExpireLeases(at_ms=WallMs(1), leases=refs, clock_ms=clock_ms))


def release(cluster: Cluster, refs: tuple[LeaseRef, ...], node: NodeId = ONE) -> Outcome:
    return cluster.apply(ReleaseLeases(at_ms=WallMs(1), node=node, leases=refs))


def test_a_lease_has_one_holder_until_it_is_released() -> None:
    cluster = two_nodes()
    assert acquire(cluster, 100).leases == (held(cluster),)
    refused = acquire(cluster, 5_100, TWO)
    assert refused.error == "conflict"
    assert "copy on n-1 on n-1 holds" in refused.message
    assert "10.0 s more" in refused.message
    release(cluster, (ref(cluster),))
    first = cluster.index
    assert acquire(cluster, 5_100, TWO).leases[0].epoch > first


def test_the_same_holder_that_asks_again_keeps_its_number_and_a_successor_waits() -> None:
    cluster = two_nodes()
    (first,) = acquire(cluster, 100).leases
    (again,) = acquire(cluster, 200).leases
    assert (again.epoch, again.renewed_clock_ms) == (first.epoch, 200)
    assert acquire(cluster, 300, ONE, "its next incarnation").error == "conflict"


def test_a_renewal_names_what_is_still_held_and_moves_no_revision() -> None:
    cluster = two_nodes()
    acquire(cluster, 100)
    before = cluster.state.revision
    lost = LeaseRef(lease=NAME, epoch=LeaseEpoch(1))
    other = LeaseRef(lease=LeaseName("x"), epoch=held(cluster).epoch)
    outcome = renew(cluster, (lost, ref(cluster), other), 900)
    assert outcome.leases == (held(cluster),)
    assert held(cluster).renewed_clock_ms == 900
    assert cluster.state.revision == before, "a plan would be made anew each time"
    assert renew(cluster, (ref(cluster),), 950, TWO).leases == (), "another node's lease"


def test_nobody_but_the_leader_s_word_ends_a_lease_and_only_after_its_time() -> None:
    cluster = two_nodes()
    acquire(cluster, 100)
    first = ref(cluster)
    assert acquire(cluster, 10**9, TWO).error == "conflict", "time alone gives it to nobody"
    expire(cluster, (first,), 99 + OVER_MS)
    assert held(cluster).epoch == first.epoch
    expire(cluster, (first,), 100 + OVER_MS)
    assert not cluster.state.leases
    assert renew(cluster, (first,), 100 + OVER_MS).leases == ()
    (second,) = acquire(cluster, 101 + OVER_MS, TWO).leases
    assert second.epoch > first.epoch
    expire(cluster, (first,), 10**10)
    assert held(cluster) == second, "the word was about the one before"


def test_a_renewal_that_was_committed_first_makes_the_expiry_void() -> None:
    cluster = two_nodes()
    acquire(cluster, 0)
    late = expirable(cluster.state, OVER_MS)
    assert late == (ref(cluster),)
    renew(cluster, late, OVER_MS)
    expire(cluster, late, OVER_MS)
    assert NAME in cluster.state.leases


def test_lease_time_never_goes_back() -> None:
    cluster = two_nodes()
    acquire(cluster, 50_000)
    renew(cluster, (ref(cluster),), 10)
    assert (cluster.state.clock_ms, held(cluster).renewed_clock_ms) == (50_000, 50_000)


def test_a_removed_node_keeps_its_lease_until_the_end_and_cannot_renew_it() -> None:
    cluster = two_nodes()
    acquire(cluster, 0)
    done(cluster, LeaveNode, node=ONE)
    assert renew(cluster, (ref(cluster),), 5).error == "forbidden"
    assert acquire(cluster, 5).error == "forbidden"
    assert acquire(cluster, 5, TWO).error == "conflict", "it may still run there"


@pytest.mark.parametrize(
    "wrong", [{"ttl_ms": 0}, {"ttl_ms": 10**9}, {"lease": ""}, {"clock_ms": -1}, {"clock_ms": 2**60}]
)
def test_a_lease_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    cluster = two_nodes()
    command = AcquireLease(at_ms=WallMs(1), lease=NAME, node=ONE, holder="x", ttl_ms=TTL_MS, clock_ms=0)
    before = cluster.image()
    changed: Command = type(command)(**{name: getattr(command, name) for name in command.__struct_fields__} | wrong)
    assert cluster.apply(changed).error == "invalid_request"
    assert cluster.image() == before


def test_there_is_an_end_to_how_many_leases_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.state.applying.leases.LEASES_MAX", 1)
    cluster = two_nodes()
    acquire(cluster, 0)
    assert acquire(cluster, 1).error == "", "who holds one already is not one more"
    assert acquire(cluster, 0, lease=LeaseName("other")).error == "conflict"


def test_numbers_grow_over_a_group_that_began_anew_with_a_shorter_log() -> None:
    cluster = two_nodes()
    cluster.index = 1_000_000
    (before,) = acquire(cluster, 0).leases
    release(cluster, (ref(cluster),))
    cluster.index = 500
    done(cluster, BeginEpoch, epoch=1)
    (after,) = acquire(cluster, 0).leases
    assert before.epoch < after.epoch < 2**53


def test_a_new_leader_prolongs_and_never_shortens() -> None:
    old = LeaseClock(1_000, Instant(50.0))
    assert old.read_ms(Instant(50.0)) == 1_000
    assert old.read_ms(Instant(53.5)) == 4_500
    new = LeaseClock(applied_clock_ms=4_000, now=Instant(7.0))  # what of the old one's time it has applied
    assert new.read_ms(Instant(7.5)) == 4_500
    assert new.read_ms(Instant(1.0)) == 4_000


def test_the_slowest_holder_stops_before_the_fastest_leader_may_declare_its_lease_expired() -> None:
    cluster = two_nodes()
    acquire(cluster, 0)
    holder_s = holder_ttl_s(TTL_MS) / (1 - DRIFT / 2)
    fast = LeaseClock(0, Instant(0.0)).read_ms(Instant(holder_s * (1 + DRIFT / 2)))
    assert not expirable(cluster.state, fast)
    assert holder_s > TTL_MS / 1000 * 0.9, "and not much earlier than it must"


class _World:
    """Two holders, leaders that change, and real time; the holders' and leaders' clocks drift."""

    def __init__(self) -> None:
        self.cluster = two_nodes()
        self.now = 0.0
        self.clock = LeaseClock(0, Instant(0.0))
        self.acts_until: dict[NodeId, float] = {ONE: -1.0, TWO: -1.0}

    def step(self, action: str, seconds: float, rate: float) -> None:
        self.now += seconds
        clock_ms = self.clock.read_ms(Instant(self.now * (1 + DRIFT / 4)))
        if action == "new leader":
            self.clock = LeaseClock(self.cluster.state.clock_ms, Instant(self.now * (1 + DRIFT / 4)))
        elif action == "expire":
            expire(self.cluster, expirable(self.cluster.state, clock_ms), clock_ms)
        else:
            node = ONE if action == "one" else TWO
            if acquire(self.cluster, clock_ms, node).leases:
                # Its own clock runs at `rate`; it sent the request a moment ago.
                self.acts_until[node] = self.now - 0.01 + holder_ttl_s(TTL_MS) / rate
        both = [node for node, until in self.acts_until.items() if until > self.now]
        assert len(both) < 2, "two act at once"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["one", "two", "expire", "expire", "new leader"]),
            st.floats(0, 20),
            st.floats(1 - DRIFT / 2, 1 + DRIFT / 2),
        ),
        max_size=60,
    )
)
def test_two_never_act_under_one_lease_whatever_leaders_and_clocks_do(actions: list[tuple[str, float, float]]) -> None:
    world = _World()
    for action, seconds, rate in actions:
        world.step(action, seconds, rate)
