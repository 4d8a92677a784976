"""Whatever the network does to the exchange, in the end all know what each owner says, and never anything else."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossip.facts import FactsConfig
from gossip.facts.frames import Summary, decode_frame
from tests.gossip.facts.cluster import Cluster, visible

NODES = 3
node_numbers = st.integers(0, NODES - 1)
keys = st.sampled_from(["a", "b", "c", "d"])
actions = st.one_of(
    st.tuples(st.just("write"), node_numbers, keys, st.integers(0, 900)),
    st.tuples(st.just("remove"), node_numbers, keys, st.just(0)),
    st.tuples(st.just("tick"), st.just(0), st.just(""), st.integers(1, 8)),
    st.tuples(st.just("deliver"), st.integers(0, 50), st.just(""), st.just(0)),
    st.tuples(st.just("deliver"), st.integers(0, 50), st.just(""), st.just(0)),
    st.tuples(st.just("repeat"), st.integers(0, 50), st.just(""), st.just(0)),
    st.tuples(st.just("lose"), st.integers(0, 50), st.just(""), st.just(0)),
    st.tuples(st.just("lose_all"), st.just(0), st.just(""), st.just(0)),
    st.tuples(st.just("restart"), node_numbers, st.just(""), st.just(0)),
    st.tuples(st.just("forget"), st.just(0), st.just(""), st.just(0)),
)
Action = tuple[str, int, str, int]


def perform(cluster: Cluster, action: Action) -> None:
    kind, number, key, amount = action
    if kind == "write":
        cluster.write(f"n{number}", key, bytes([amount % 251]) * amount)
    elif kind == "remove":
        cluster.remove(f"n{number}", key)
    elif kind == "tick":
        cluster.tick(amount * 0.25)
    elif kind == "restart":
        cluster.start(f"n{number}")
    elif kind == "forget":  # every removal that is here is old enough to be forgotten
        cluster.tick(cluster.config.tombstone_keep_s + 1)
    elif kind == "lose_all":
        cluster.wire.clear()
    elif cluster.wire:
        place = number % len(cluster.wire)
        if kind == "lose":
            del cluster.wire[place]
        else:
            cluster.deliver(place, is_kept=kind == "repeat")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(actions, max_size=60), st.integers(0, 2**32))
def test_any_order_loss_duplication_and_restart_ends_with_equal_maps(script: list[Action], seed: int) -> None:
    """Scuttlebutt §3; packets of 512 bytes, so that deltas are cut often."""
    cluster = Cluster(NODES, FactsConfig(packet_bytes_max=512, tombstone_keep_s=5.0, bulk_interval_s=2.0), seed)
    for action in script:
        perform(cluster, action)
        cluster.check_truth()
    for _ in range(40):
        cluster.run(1.0)
        cluster.check_truth()
        if cluster.is_agreed():
            break
    assert cluster.is_agreed()
    for machine in cluster.nodes.values():
        assert "own_incarnation" not in machine.drops


def test_news_reach_all_within_seconds_without_any_summary() -> None:
    cluster = Cluster(16, FactsConfig(summary_interval_s=1000.0))
    cluster.run(3.0)
    cluster.write("n0", "health", b"well")
    cluster.run(3.0)
    assert cluster.is_agreed()


def test_a_summary_closes_what_pushes_lost() -> None:
    cluster = Cluster(4)
    cluster.run(2.0)
    cluster.write("n0", "health", b"well")
    for _ in range(40):  # all pushes are lost
        cluster.tick()
        cluster.wire.clear()
    assert visible(cluster.nodes["n1"], "n0") == {}
    cluster.run(10.0)
    assert cluster.is_agreed()


def test_an_idle_cluster_says_one_short_thing_in_eight_seconds() -> None:
    cluster = Cluster(8)
    for node in cluster.nodes:
        cluster.write(node, "health", b"well")
    cluster.run(40.0)
    cluster.sent.clear()
    cluster.run(160.0)
    assert 8 * 20 * 0.8 <= len(cluster.sent) <= 8 * 20 * 1.25
    assert max(len(sent.payload) for sent in cluster.sent) < 32


def test_whoever_has_news_asks_around_once_a_second_again_and_less_and_less_often() -> None:
    """RFC 6206: the wait starts anew at an inconsistency, and doubles while all is consistent."""
    cluster = Cluster(8)
    cluster.run(60.0)
    cluster.write("n0", "health", b"well")
    counts = []
    for seconds in (3.0, 30.0):
        cluster.sent.clear()
        cluster.run(seconds)
        summaries = [sent for sent in cluster.sent if isinstance(decode_frame(sent.payload).messages[0], Summary)]
        counts.append(len(summaries) / 8 / seconds)
    assert cluster.is_agreed()
    assert counts[0] > 0.5
    assert counts[1] < 0.25


def test_one_that_missed_all_news_of_a_cluster_long_silent_hears_of_it_from_the_others() -> None:
    """Its own summaries are rare, since it knows of no change; theirs are not."""
    cluster = Cluster(8)
    cluster.run(60.0)
    cluster.write("n0", "health", b"well")
    for _ in range(8):
        cluster.tick()
        cluster.wire = [packet for packet in cluster.wire if "n7" not in packet[:2]]
        while cluster.wire:
            cluster.deliver()
    assert visible(cluster.nodes["n7"], "n0") == {}
    cluster.run(5.0)
    assert cluster.is_agreed()


def test_a_newcomer_learns_everything_by_stream() -> None:
    cluster = Cluster(3)
    for node in cluster.nodes:
        for number in range(200):
            cluster.write(node, f"allocation/{number}", bytes(100))
    cluster.run(20.0)
    cluster.start("n9")
    cluster.sent.clear()
    cluster.run(5.0)
    assert cluster.is_agreed()
    assert any(type(sent).__name__ == "SendBulk" for sent in cluster.sent)


def test_a_value_longer_than_a_packet_arrives() -> None:
    cluster = Cluster(3)
    cluster.write("n1", "small", b"x")
    cluster.write("n1", "large", bytes(60_000))
    cluster.write("n1", "later", b"y")
    cluster.run(10.0)
    assert cluster.is_agreed()


def test_who_missed_a_removal_that_all_have_forgotten_starts_over() -> None:
    cluster = Cluster(3, FactsConfig(tombstone_keep_s=5.0))
    for key in ("kept", "gone"):
        cluster.write("n0", key, b"1")
    cluster.run(5.0)
    lonely = cluster.nodes.pop("n2")
    cluster.remove("n0", "gone")
    cluster.run(10.0)
    assert visible(lonely, "n0") == {"kept": b"1", "gone": b"1"}
    cluster.nodes["n2"] = lonely
    cluster.run(5.0)
    assert visible(lonely, "n0") == {"kept": b"1"}
    cluster.check_truth()
