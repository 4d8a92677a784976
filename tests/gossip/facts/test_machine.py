"""One facts machine: its limits, its owner, those who go, the kill switch, and whatever comes off the wire."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.events import Tick
from gossip.facts import (
    FactLearned,
    FactRemoved,
    Facts,
    FactsConfig,
    FactsEffect,
    FactWritten,
    FrameReceived,
    IncarnationRaised,
    Paused,
    PeerAppeared,
    PeerDeparted,
    Resumed,
    SendBulk,
    SendFacts,
)
from gossip.facts.frames import (
    Delta,
    Digest,
    FactMessage,
    FrameError,
    Item,
    Reach,
    Summary,
    decode_frame,
    encode_frame,
    encode_message,
)
from gossip.messages import Address
from orca.errors import InvalidRequestError, NotAvailableError, PayloadTooLargeError
from orca.model.units import Instant
from tests.gossip.facts.cluster import Cluster, visible

PEER = Address("10.0.0.9", 7946)


def lonely(config: FactsConfig | None = None) -> Facts:
    machine = Facts(config or FactsConfig(), "me", 7, random.Random(1), Instant(0.0))
    machine.step(PeerAppeared(node="peer", address=PEER), Instant(0.0))
    return machine


def hear(machine: Facts, *messages: FactMessage, now: float = 0.0, sender: str = "peer") -> list[FactsEffect]:
    payload = encode_frame(sender, [encode_message(message) for message in messages])
    effects = machine.step(FrameReceived(payload=payload), Instant(now))
    machine.check_invariants()
    return effects


def delta(*items: Item, writer: str = "peer", incarnation: int = 1, base: int = 0, end: int = 0) -> Delta:
    return Delta(writer, incarnation, base, end or items[-1].version, 0, items)


def answers(effects: list[FactsEffect]) -> list[FactMessage]:
    sent = [effect for effect in effects if isinstance(effect, SendFacts | SendBulk)]
    assert all(effect.to == PEER for effect in sent)
    return [message for effect in sent for message in decode_frame(effect.payload).messages]


def test_an_own_fact_is_learned_by_its_own_node_and_said_once() -> None:
    machine = lonely()
    assert machine.step(FactWritten(key="a", value=b"1"), Instant(0.0)) == [
        FactLearned(writer="me", key="a", version=2, value=b"1")
    ]
    assert machine.step(FactWritten(key="a", value=b"1"), Instant(0.0)) == []
    assert machine.step(FactRemoved(key="a"), Instant(0.0)) == [
        FactLearned(writer="me", key="a", version=3, value=None)
    ]
    assert machine.step(FactRemoved(key="a"), Instant(0.0)) == []
    assert machine.get("me", "a") is None


@pytest.mark.parametrize(
    ("written", "error"),
    [
        (FactWritten(key="", value=b""), InvalidRequestError),
        (FactWritten(key="k" * 129, value=b""), InvalidRequestError),
        (FactWritten(key="\ud800", value=b""), InvalidRequestError),
        (FactWritten(key="k", value=bytes(64 * 1024 + 1)), PayloadTooLargeError),
        (FactWritten(key="k", value=b"", ttl_s=-1.0), InvalidRequestError),
        (FactWritten(key="k", value=b"", ttl_s=float("nan")), InvalidRequestError),
    ],
)
def test_an_own_fact_that_cannot_be_held_is_refused(written: FactWritten, error: type[Exception]) -> None:
    machine = lonely()
    with pytest.raises(error):
        machine.step(written, Instant(0.0))
    assert machine.facts_of("me") == []


def test_own_facts_are_bounded_and_removals_make_room() -> None:
    machine = lonely(FactsConfig(writer_facts_max=3))
    for key in "abc":
        machine.step(FactWritten(key=key, value=b"1"), Instant(0.0))
    with pytest.raises(NotAvailableError, match="no room for 'd'"):
        machine.step(FactWritten(key="d", value=b"1"), Instant(0.0))
    machine.step(FactRemoved(key="a"), Instant(0.0))
    machine.step(FactWritten(key="d", value=b"1"), Instant(0.0))
    assert [fact.key for fact in machine.facts_of("me")] == ["b", "c", "d"]


def test_a_restarted_writer_overrides_its_earlier_life() -> None:
    machine = lonely()
    hear(machine, delta(Item("a", 1, b"old"), Item("b", 2, b"old"), Item("c", 9, b"same")))
    effects = hear(machine, delta(Item("a", 1, b"new"), Item("c", 2, b"same"), incarnation=2))
    assert effects == [
        FactLearned(writer="peer", key="b", version=2, value=None),
        FactLearned(writer="peer", key="a", version=1, value=b"new"),
        FactLearned(writer="peer", key="c", version=2, value=b"same"),
    ]
    assert hear(machine, delta(Item("a", 50, b"ghost"))) == []


def test_a_node_that_forgot_its_earlier_life_raises_its_incarnation_and_says_everything_again() -> None:
    machine = lonely()
    machine.step(FactWritten(key="a", value=b"1"), Instant(0.0))
    effects = hear(machine, Digest((Reach("me", 9, 40, 0),)))
    assert IncarnationRaised(incarnation=10) in effects
    offered = [message for message in answers(effects) if isinstance(message, Delta)]
    assert [(one.incarnation, one.items) for one in offered] == [(10, (Item("a", 2, b"1"),))]


def test_nobody_can_use_up_our_incarnations() -> None:
    machine = lonely()
    hear(machine, Digest((Reach("me", 2**62, 1, 0),)))
    assert machine.incarnation == 7
    for number in range(20):
        hear(machine, Digest((Reach("me", 100 + number * 10, 1, 0),)))
    assert machine.incarnation <= 100 + 5 * 10
    assert machine.drops["own_incarnation"] >= 15


def test_a_delta_that_does_not_connect_is_asked_for_once_in_a_while() -> None:
    machine = lonely()
    hear(machine, delta(Item("a", 1, b"1")))
    torn = delta(Item("z", 9, b"9"), base=8)
    assert answers(hear(machine, torn)) == [Digest((Reach("peer", 1, 1, 0),), is_answer=True)]
    assert hear(machine, torn) == []
    assert answers(hear(machine, torn, now=1.0)) != []


def test_facts_with_a_time_to_live_vanish_after_their_owner_and_return_with_it() -> None:
    machine = lonely()
    hear(machine, delta(Item("lease", 1, b"1", 2.0), Item("version", 2, b"1")))
    assert machine.step(PeerDeparted(node="peer"), Instant(10.0)) == []
    assert machine.deadline() <= 12.0
    assert machine.step(Tick(), Instant(12.0)) == [FactLearned(writer="peer", key="lease", version=1, value=None)]
    assert machine.get("peer", "lease") is None
    assert machine.get("peer", "version") is not None
    back = machine.step(PeerAppeared(node="peer", address=PEER), Instant(13.0))
    assert back == [FactLearned(writer="peer", key="lease", version=1, value=b"1")]
    machine.check_invariants()


def test_a_time_to_live_of_nothing_ends_with_the_owner() -> None:
    machine = lonely()
    hear(machine, delta(Item("lease", 1, b"1", 0.0)))
    assert machine.step(PeerDeparted(node="peer"), Instant(10.0)) == [
        FactLearned(writer="peer", key="lease", version=1, value=None)
    ]


def test_facts_of_the_departed_are_forgotten_and_nobody_can_bring_them_back() -> None:
    machine = lonely(FactsConfig(departed_keep_s=100.0))
    machine.step(PeerAppeared(node="other", address=Address("10.0.0.8", 1)), Instant(0.0))
    hear(machine, delta(Item("a", 1, b"1")))
    machine.step(PeerDeparted(node="peer"), Instant(0.0))
    effects = machine.step(Tick(), Instant(100.0))
    assert effects[0] == FactLearned(writer="peer", key="a", version=1, value=None)
    assert hear(machine, delta(Item("a", 1, b"1")), now=101.0, sender="other") == []
    assert hear(machine, Digest((Reach("peer", 1, 1, 0),)), now=101.0, sender="other") == []
    assert (machine.writers(), machine.drops) == (["me"], {"absent_writer": 1})


def test_the_kill_switch_keeps_what_is_known_and_neither_takes_in_nor_sends() -> None:
    machine = lonely()
    hear(machine, delta(Item("a", 1, b"good")))
    machine.step(Paused(), Instant(1.0))
    assert hear(machine, delta(Item("a", 2, b"bad"), base=1), now=1.0) == []
    machine.step(FactWritten(key="own", value=b"1"), Instant(1.0))
    assert machine.step(Tick(), Instant(5.0)) == []
    assert machine.deadline() > 5.0
    fact = machine.get("peer", "a")
    assert fact is not None
    assert fact.value == b"good"
    machine.step(Resumed(), Instant(6.0))
    assert any(isinstance(message, Summary) for message in answers(machine.step(Tick(), Instant(6.0))))


def test_a_paused_node_catches_up() -> None:
    cluster = Cluster(3)
    cluster.step("n1", Paused())
    cluster.write("n0", "a", b"1")
    cluster.write("n1", "b", b"2")
    cluster.run(5.0)
    assert visible(cluster.nodes["n1"], "n0") == visible(cluster.nodes["n0"], "n1") == {}
    cluster.step("n1", Resumed())
    cluster.run(5.0)
    assert cluster.is_agreed()


def test_strangers_get_no_answer_and_are_not_believed() -> None:
    machine = lonely()
    assert hear(machine, delta(Item("a", 1, b"1")), sender="stranger") == []
    assert hear(machine, Digest((Reach("me", 0, 0, 0),)), sender="stranger") == []
    assert machine.drops == {"stranger": 2}


def test_a_writer_that_grows_without_limit_is_left_alone_for_a_minute() -> None:
    machine = lonely(FactsConfig(writer_bytes_max=10_000))
    hear(machine, delta(Item("a", 1, b"1")))
    hear(machine, delta(Item("b", 2, bytes(20_000)), base=1))
    assert machine.drops == {"writer_full": 1}
    hear(machine, delta(Item("c", 2, b"small"), base=1), now=59.0)
    assert machine.drops == {"writer_full": 1, "refused": 1}
    assert hear(machine, Summary(bytes(4)), now=59.0) != [], "who else differs is still asked"
    hear(machine, delta(Item("c", 2, b"small"), base=1), now=61.0)
    assert machine.get("peer", "c") is not None


def test_all_writers_together_are_bounded_and_the_longest_gone_make_room() -> None:
    config = FactsConfig(total_bytes_max=50_000, writer_bytes_max=20_000)
    machine = lonely(config)
    for number in range(6):
        node = f"w{number}"
        machine.step(PeerAppeared(node=node, address=PEER), Instant(0.0))
        hear(machine, delta(Item("a", 1, bytes(15_000)), writer=node))
    assert machine.held_bytes <= config.total_bytes_max
    assert machine.drops["store_full"] == 3
    machine.step(PeerDeparted(node="w0"), Instant(1.0))
    effects = hear(machine, delta(Item("a", 1, bytes(15_000)), writer="w5"), now=100.0)
    assert FactLearned(writer="w0", key="a", version=1, value=None) in effects
    assert machine.get("w5", "a") is not None


def test_a_writer_that_changes_its_mind_too_fast_is_slowed_down() -> None:
    machine = lonely(FactsConfig(accept_per_s=10.0, accept_burst=20, writer_facts_max=20))
    for version in range(1, 101):
        hear(machine, delta(Item("a", version, b"%d" % version), base=version - 1), now=0.0)
    assert machine.drops["writer_rate"] > 0
    fact = machine.get("peer", "a")
    assert fact is not None
    assert fact.version <= 20


def test_a_peer_that_floods_is_not_read() -> None:
    machine = lonely(FactsConfig(frames_burst=5, frames_per_s=1.0))
    for _ in range(10):
        hear(machine, Summary(bytes(4)))
    assert machine.drops == {"peer_rate": 5}


def test_an_answer_is_no_longer_than_the_peer_may_get() -> None:
    machine = lonely()
    for number in range(500):
        machine.step(FactWritten(key=f"k{number}", value=bytes(400)), Instant(0.0))
    wants_all = Digest((Reach("me", 0, 0, 0),))
    first = hear(machine, wants_all)
    assert [type(effect) for effect in first] == [SendBulk]
    second = hear(machine, wants_all)
    assert [type(effect) for effect in second] == [SendFacts] * 4


def frame(*messages: object, sender: str = "peer", schema: int = 1) -> bytes:
    return b"\xf0" + msgspec.msgpack.encode((schema, sender, messages))


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (b"", "not_a_frame"),
        (b"\x03abc", "not_a_frame"),
        (b"\xf0", "bad_msgpack"),
        (b"\xf0\xc1", "bad_msgpack"),
        (b"\xf0" + b"\x91" * 100_000, "bad_msgpack"),
        (frame(schema=2), "schema"),
        (frame(("x", 1)), "bad_message"),
        (frame(("s", b"abc")), "bad_summary"),
        (frame(("s", bytes(12))), "bad_summary"),
        (frame(("d", (("w", -1, 0, 0),))), "bad_number"),
        (frame(("d", (("w", 1, 2**63, 0),))), "bad_number"),
        (frame(("u", "w", 1, 5, 5, 0, ())), "bad_order"),
        (frame(("u", "w", 1, 0, 5, 0, (("a", 3, b""), ("b", 3, b"")))), "bad_order"),
        (frame(("u", "w", 1, 0, 5, 0, (("a", 6, b""),))), "bad_order"),
        (frame(("u", "w", 1, 0, 5, 0, (("", 1, b""),))), "bad_key"),
        (frame(("u", "w", 1, 0, 5, 0, (("a", 1, bytes(70_000)),))), "bad_value"),
        (frame(("u", "w", 1, 0, 5, 0, (("a", 1, b"", -1.0),))), "bad_ttl"),
        (frame(("u", "w", 1, 0, 5, 0, (("a", 1, b"", float("nan")),))), "bad_ttl"),
    ],
)
def test_what_is_no_frame_is_dropped_and_counted(payload: bytes, cause: str) -> None:
    with pytest.raises(FrameError) as raised:
        decode_frame(payload)
    assert raised.value.cause == cause
    machine = lonely()
    assert machine.step(FrameReceived(payload=payload), Instant(0.0)) == []
    assert machine.drops == {cause: 1}


def test_a_newer_node_may_add_fields() -> None:
    payload = frame(("u", "peer", 1, 0, 5, 0, (("a", 1, b"1", None, "new"),), False, "newer"))
    machine = lonely()
    machine.step(FrameReceived(payload=payload), Instant(0.0))
    assert machine.get("peer", "a") is not None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=200).map(lambda tail: b"\xf0" + tail), st.binary(max_size=50))))
def test_no_bytes_whatsoever_do_harm(payloads: list[bytes]) -> None:
    machine = lonely()
    for payload in payloads:
        machine.step(FrameReceived(payload=payload), Instant(0.0))
        machine.check_invariants()


numbers = st.integers(0, 12)
items = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.none() | st.binary(max_size=3)), max_size=4)
messages = st.one_of(
    st.builds(Summary, st.sampled_from([bytes(4), b"abcd", bytes(16), b"x" * 256])),
    st.builds(
        lambda reaches, is_answer: Digest(tuple(reaches), is_answer),
        st.lists(st.builds(Reach, st.sampled_from(["me", "peer", "other", "x"]), numbers, numbers, numbers)),
        st.booleans(),
    ),
    st.builds(
        lambda writer, incarnation, base, gc_version, parts, extra, is_push: Delta(
            writer,
            incarnation,
            base,
            base + sum(step for _, step, _ in parts) + extra,
            gc_version,
            tuple(
                Item(key, base + sum(step for _, step, _ in parts[: place + 1]), value)
                for place, (key, _, value) in enumerate(parts)
            ),
            is_push,
        ),
        st.sampled_from(["me", "peer", "other", "x"]),
        st.integers(1, 4),
        numbers,
        numbers,
        items,
        st.integers(1, 3),
        st.booleans(),
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(messages, st.floats(0, 2)), max_size=30))
def test_a_peer_that_lies_about_everything_breaks_nothing(script: list[tuple[FactMessage, float]]) -> None:
    machine = lonely()
    machine.step(PeerAppeared(node="other", address=PEER), Instant(0.0))
    machine.step(FactWritten(key="a", value=b"1"), Instant(0.0))
    now = 0.0
    for message, pause_s in script:
        now += pause_s
        for effect in hear(machine, message, now=now):
            if isinstance(effect, SendFacts | SendBulk):
                decode_frame(effect.payload)
        for effect in machine.step(Tick(), Instant(now)):
            if isinstance(effect, SendFacts | SendBulk):
                decode_frame(effect.payload)
        machine.check_invariants()
    assert {fact.key: fact.value for fact in machine.facts_of("me")} == {"a": b"1"}
