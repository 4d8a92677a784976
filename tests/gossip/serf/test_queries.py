"""Queries: filters, acks, one answer in time, relays, internal ones (WIRE §6.5, §6.6)."""

import msgspec
import pytest

from gossip.codec.serf_frames import decode_serf, encode_serf, encode_tags
from gossip.messages import (
    MEMBERLIST_VERSION,
    Address,
    Alive,
    Filter,
    NodeFilter,
    Query,
    QueryResponse,
    Relay,
    TagFilter,
)
from gossip.serf import (
    NameLost,
    QueryAcked,
    QueryAnswer,
    QueryAnswered,
    QueryClosed,
    QueryEnded,
    QueryReceived,
    QueryRequested,
    QueryStarted,
    SendUser,
    SerfEffect,
)
from gossip.serf.questions import OPEN_MAX, PENDING_MAX
from orca.errors import InvalidRequestError, NotAvailableError
from orca.model.units import Instant
from tests.gossip.serf.world import View, World, address_of


def received(world: World, node: str) -> list[QueryReceived]:
    return [effect for effect in world.effects[node] if isinstance(effect, QueryReceived)]


def answer_all(world: World, payload: bytes = b"yes") -> None:
    for node in world.serfs:
        for query in received(world, node):
            world.step(node, QueryAnswered(key=query.key, payload=payload + node.encode()))


def answers(world: World, node: str) -> dict[str, bytes]:
    return {effect.node: effect.payload for effect in world.effects[node] if isinstance(effect, QueryAnswer)}


def hear(world: World, node: str, query: Query) -> list[SerfEffect]:
    world.serfs[node].user_message(encode_serf(query), query.source, world.now)
    effects = world.serfs[node].drain()
    world.serfs[node].check_invariants()
    return effects


def asked(ltime: int = 5, query_id: int = 1, **changes: object) -> Query:
    query = Query(
        ltime=ltime,
        query_id=query_id,
        source=Address("10.0.0.99", 7946),
        source_node="asker",
        name="load",
        timeout_ns=5_000_000_000,
    )
    return msgspec.structs.replace(query, **changes)


def test_all_hear_a_query_once_and_each_answer_comes_once() -> None:
    world = World(5)
    world.step("n0", QueryRequested(handle=1, name="load", payload=b"?", wants_ack=True))
    world.run(1.0)
    assert [len(received(world, node)) for node in world.serfs] == [1] * 5
    answer_all(world)
    assert answers(world, "n0") == {f"n{number}": b"yesn%d" % number for number in range(5)}
    acks = [effect.node for effect in world.effects["n0"] if isinstance(effect, QueryAcked)]
    assert sorted(acks) == [f"n{number}" for number in range(5)]
    world.run(5.0)
    assert world.effects["n0"][-1] == QueryEnded(handle=1, acks=5, answers=5, expected=5)
    started = world.told("n0", QueryStarted)
    assert len(started) == 1


def test_a_query_waits_as_long_as_gossip_needs_unless_told_otherwise() -> None:
    """GossipInterval x 16 x ceil(log10(n + 1))."""
    world = World(12)
    world.step("n0", QueryRequested(handle=1, name="load"))
    world.step("n0", QueryRequested(handle=2, name="load", timeout_s=1.5))
    deadlines = [effect.deadline for effect in world.effects["n0"] if isinstance(effect, QueryStarted)]
    assert deadlines == [pytest.approx(0.2 * 16 * 2), pytest.approx(1.5)]


@pytest.mark.parametrize(
    ("filters", "heard"),
    [
        ((NodeFilter(nodes=("n1", "n9")),), ["n1"]),
        ((TagFilter(tag="zone", expression="^eu"),), ["n1", "n2"]),
        ((TagFilter(tag="zone", expression="^eu"), TagFilter(tag="zone", expression="2$")), ["n2"]),
        ((TagFilter(tag="missing", expression="^$"),), ["n0", "n1", "n2"]),
        ((TagFilter(tag="zone", expression="(?=eu)"),), []),
        ((TagFilter(tag="zone", expression="(((("),), []),
    ],
)
def test_only_those_whom_the_filters_let_through_hear_it(filters: tuple[Filter, ...], heard: list[str]) -> None:
    world = World()
    for number, zone in enumerate(("us1", "eu1", "eu2")):
        world.start(f"n{number}", tags={"zone": zone})
    world.step("n0", QueryRequested(handle=1, name="load", filters=filters))
    world.run(2.0)
    assert [node for node in world.serfs if received(world, node)] == heard


def test_a_query_that_is_not_for_us_is_passed_on_all_the_same() -> None:
    world = World(2)
    hear(world, "n0", asked(filters=(NodeFilter(nodes=("elsewhere",)),)))
    assert world.serfs["n0"].queue_depths["queries"] == 1
    hear(world, "n0", asked(query_id=2, is_local_only=True))
    assert world.serfs["n0"].queue_depths["queries"] == 1


def test_an_expression_that_is_not_understood_is_counted() -> None:
    world = World(1)
    hear(world, "n0", asked(filters=(TagFilter(tag="zone", expression="(a)\\1"),)))
    assert world.serfs["n0"].drops == {"filter_pattern": 1}


def test_an_ack_goes_out_before_anybody_thinks_about_an_answer() -> None:
    world = World(1)
    effects = hear(world, "n0", asked(wants_ack=True))
    assert [type(effect) for effect in effects[:2]] == [SendUser, QueryReceived]
    assert isinstance(effects[0], SendUser)
    ack = QueryResponse(ltime=5, query_id=1, node="n0", is_ack=True)
    assert (effects[0].to, decode_serf(effects[0].payload)) == (Address("10.0.0.99", 7946), ack)


def test_a_query_is_answered_once_in_time_and_in_size() -> None:
    world = World(1)
    hear(world, "n0", asked())
    hear(world, "n0", asked(query_id=2))
    key = QueryReceived
    first, second = (
        effect.key
        for effect in (hear(world, "n0", asked(query_id=3)) + hear(world, "n0", asked(query_id=4)))
        if isinstance(effect, key)
    )
    with pytest.raises(InvalidRequestError, match="at most 1024"):
        world.step("n0", QueryAnswered(key=first, payload=bytes(1024)))
    world.step("n0", QueryAnswered(key=first, payload=b"1"))
    with pytest.raises(NotAvailableError, match="answered before"):
        world.step("n0", QueryAnswered(key=first, payload=b"1"))
    world.now = Instant(world.now + 5.1)
    with pytest.raises(NotAvailableError, match="is over"):
        world.step("n0", QueryAnswered(key=second, payload=b"1"))


def test_an_answer_goes_through_others_too_when_the_asker_wants_it() -> None:
    world = World(5)
    old = View("old", Address("10.0.0.50", 1), version=bytes((1, 4, 2, 2, 4, 4)))
    world.serfs["n0"].member_joined(old, world.now)
    effects = hear(world, "n0", asked(relay_factor=2))
    key = next(effect.key for effect in effects if isinstance(effect, QueryReceived))
    sent = [
        effect
        for effect in world.serfs["n0"].step(QueryAnswered(key=key, payload=b"1"), world.now)
        if isinstance(effect, SendUser)
    ]
    assert sent[0].to == Address("10.0.0.99", 7946)
    relayed = [decode_serf(effect.payload) for effect in sent[1:]]
    assert len({effect.to for effect in sent[1:]}) == 2
    assert all(effect.to != old.address for effect in sent[1:]), "it does not know relays"
    assert relayed == [Relay(target=Address("10.0.0.99", 7946), target_node="asker", message=sent[0].payload)] * 2


def test_relays_go_to_members_only() -> None:
    world = World(2)
    message = encode_serf(QueryResponse(ltime=1, query_id=1, node="n1"))
    for target in (address_of("n1"), Address("8.8.8.8", 53)):
        relay = Relay(target=target, target_node="n1", message=message)
        world.serfs["n0"].user_message(encode_serf(relay), address_of("n1"), world.now)
    assert world.serfs["n0"].drain() == [SendUser(to=address_of("n1"), payload=message)]
    assert world.serfs["n0"].drops == {"relay_to_stranger": 1}


def test_answers_that_nobody_asked_for_are_counted_by_cause() -> None:
    world = World(2)
    started = world.step("n0", QueryRequested(handle=1, name="load"))[0]
    assert isinstance(started, QueryStarted)
    serf = world.serfs["n0"]

    def say(node: str, query_id: int = started.key.query_id, *, is_ack: bool = False) -> None:
        response = QueryResponse(ltime=started.key.ltime, query_id=query_id, node=node, is_ack=is_ack)
        serf.user_message(encode_serf(response), address_of("n1"), world.now)

    say("n1", query_id=started.key.query_id ^ 1)
    say("n1", is_ack=True)
    say("n1")
    say("n1")
    for number in range(100):
        say(f"fake{number}")
    assert serf.drops["query_unknown"] == 1
    assert serf.drops["query_ack_unwanted"] == 1
    assert serf.drops["query_duplicate"] == 1
    assert serf.drops["query_flood"] == 101 - (2 * 2 + 16)


@pytest.mark.parametrize(
    "request_",
    [
        QueryRequested(handle=-1, name="load"),
        QueryRequested(handle=1, name="_serf_install-key"),
        QueryRequested(handle=1, name="_serf_ping", payload=b"x"),
        QueryRequested(handle=1, name="load", relay_factor=256),
        QueryRequested(handle=1, name="load", timeout_s=-1.0),
        QueryRequested(handle=1, name="load", timeout_s=601.0),
        QueryRequested(handle=1, name="load", payload=bytes(1024)),
        QueryRequested(handle=1, name="\udfff\ud800"),
    ],
)
def test_a_query_that_cannot_be_asked_is_refused_and_changes_nothing(request_: QueryRequested) -> None:
    world = World(1)
    before = world.serfs["n0"].local_state(False)
    with pytest.raises(InvalidRequestError):
        world.step("n0", request_)
    assert world.serfs["n0"].local_state(False) == before
    world.serfs["n0"].check_invariants()


def test_a_handle_is_used_by_one_query_at_a_time_and_closing_frees_it() -> None:
    world = World(1)
    world.step("n0", QueryRequested(handle=1, name="load"))
    with pytest.raises(InvalidRequestError, match="in use"):
        world.step("n0", QueryRequested(handle=1, name="load"))
    assert world.step("n0", QueryClosed(handle=1))[-1] == QueryEnded(handle=1, acks=0, answers=0, expected=1)
    assert world.step("n0", QueryClosed(handle=1)) == []
    world.step("n0", QueryRequested(handle=1, name="load"))


def test_queries_are_bounded_both_ways() -> None:
    world = World(1)
    for number in range(OPEN_MAX):
        world.step("n0", QueryRequested(handle=number, name="load"))
    with pytest.raises(NotAvailableError):
        world.step("n0", QueryRequested(handle=OPEN_MAX, name="load"))
    keys = []
    for number in range(PENDING_MAX + 1):
        effects = hear(world, "n0", asked(ltime=1000 + number))
        keys += [effect.key for effect in effects if isinstance(effect, QueryReceived)]
    with pytest.raises(NotAvailableError):
        world.step("n0", QueryAnswered(key=keys[0], payload=b""))
    world.step("n0", QueryAnswered(key=keys[-1], payload=b""))


def test_the_ping_of_serf_reachability_is_acked_and_never_shown() -> None:
    world = World(3)
    world.step("n0", QueryRequested(handle=1, name="_serf_ping", wants_ack=True))
    world.run(2.0)
    acks = {effect.node for effect in world.effects["n0"] if isinstance(effect, QueryAcked)}
    assert acks == {"n0", "n1", "n2"}
    assert all(received(world, node) == [] for node in world.serfs)


def test_an_unknown_internal_query_is_passed_on_and_never_shown() -> None:
    world = World(1)
    assert hear(world, "n0", asked(name="_serf_future")) == []
    assert world.serfs["n0"].queue_depths["queries"] == 1


def conflict(world: World, other: Address) -> None:
    claim = Alive(incarnation=1, node="n0", address=other)
    world.serfs["n0"].name_conflict(world.view("n0"), claim, world.now)
    world.perform("n0", world.serfs["n0"].drain())


def test_a_name_stays_with_the_node_that_most_believe_in() -> None:
    world = World(4)
    conflict(world, Address("10.9.9.9", 7946))
    world.run(5.0)
    assert world.told("n0", NameLost) == []


def test_a_node_that_most_believe_to_live_elsewhere_loses_its_name() -> None:
    world = World(5)
    elsewhere = Address("10.9.9.9", 7946)
    for node in ("n1", "n2", "n3"):
        world.serfs[node].member_updated(View("n0", elsewhere, encode_tags({}), MEMBERLIST_VERSION), world.now)
    conflict(world, elsewhere)
    conflict(world, elsewhere)
    world.run(5.0)
    assert world.told("n0", NameLost) == [NameLost(owner=elsewhere, matching=1, answers=4)]


def test_a_name_is_kept_when_nobody_answers() -> None:
    world = World(1)
    conflict(world, Address("10.9.9.9", 7946))
    world.run(5.0)
    assert world.told("n0", NameLost) == []
