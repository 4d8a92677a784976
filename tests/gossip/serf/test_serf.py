"""The Serf layer as its peers and its node see it (WIRE §6)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.codec.serf_frames import encode_coordinate, encode_serf, encode_tags
from gossip.events import Tick
from gossip.messages import (
    Address,
    Alive,
    CoordinatePayload,
    JoinIntent,
    LeaveIntent,
    PastEvent,
    PastEvents,
    SerfMessage,
    SerfState,
    UserEvent,
)
from gossip.serf import (
    ChangeMeta,
    EventRequested,
    ForceLeaveRequested,
    JoinEnded,
    JoinStarted,
    LeaveRequested,
    Left,
    MemberStatus,
    PersistPeers,
    Rejoin,
    SavedPeer,
    SerfConfig,
    Stage,
    StatusChange,
    StatusChanged,
    TagsChanged,
    UserEventReceived,
)
from orca.errors import InvalidRequestError, NotFoundError
from orca.model.units import Instant
from tests.gossip.serf.world import View, World, address_of


def statuses(world: World, node: str) -> dict[str, MemberStatus]:
    return {member.node: member.status for member in world.serfs[node].members()}


def changes(world: World, node: str) -> list[tuple[str, StatusChange]]:
    told = [effect for effect in world.effects[node] if isinstance(effect, StatusChanged)]
    return [(member.node, effect.change) for effect in told for member in effect.members]


def events(world: World, node: str) -> list[tuple[str, bytes]]:
    return [(effect.name, effect.payload) for effect in world.effects[node] if isinstance(effect, UserEventReceived)]


def stage(world: World, node: str) -> Stage:
    return world.serfs[node].stage


def say(world: World, node: str, message: SerfMessage) -> None:
    world.serfs[node].user_message(encode_serf(message), address_of("n9"), world.now)
    world.perform(node, world.serfs[node].drain())


def test_a_graceful_leave_is_seen_as_left_and_takes_its_steps_in_order() -> None:
    world = World(4)
    world.run(1.0)
    world.step("n0", LeaveRequested())
    assert stage(world, "n0") is Stage.INTENDING
    world.run(0.6)
    assert statuses(world, "n1")["n0"] in {MemberStatus.LEAVING, MemberStatus.LEFT}
    world.run(3.0)
    assert stage(world, "n0") is Stage.LEFT
    assert [type(effect) for effect in world.effects["n0"][-2:]] == [PersistPeers, Left]
    for node in ("n1", "n2", "n3"):
        assert statuses(world, node)["n0"] is MemberStatus.LEFT
        assert changes(world, node).count(("n0", StatusChange.LEFT)) == 1


def test_a_leave_waits_five_seconds_at_most_for_its_own_transmissions() -> None:
    world = World(2)
    world.run(1.0)
    world.cut.add(frozenset(("n0", "n1")))
    serf = world.serfs["n0"]
    start = world.now
    serf.step(LeaveRequested(), start)
    assert serf.deadline() <= start + 5.0
    serf.step(Tick(), Instant(start + 5.0))
    assert stage(world, "n0") is Stage.LEAVING
    serf.step(Tick(), Instant(start + 20.0))
    serf.step(Tick(), Instant(start + 21.0))
    assert stage(world, "n0") is Stage.LEFT


def test_the_last_member_leaves_without_waiting_for_anybody() -> None:
    world = World(1)
    world.step("n0", LeaveRequested())
    world.run(1.5)
    assert stage(world, "n0") is Stage.LEFT


def test_a_crash_is_seen_as_failed() -> None:
    world = World(3)
    world.crash("n2")
    assert statuses(world, "n0")["n2"] is MemberStatus.FAILED
    assert changes(world, "n0")[-1] == ("n2", StatusChange.FAILED)


def test_a_leave_intent_about_us_that_we_did_not_make_is_refuted_with_a_newer_join() -> None:
    world = World(3)
    say(world, "n1", LeaveIntent(ltime=40, node="n0"))
    assert statuses(world, "n1")["n0"] is MemberStatus.LEAVING
    world.run(3.0)
    for node in world.serfs:
        assert statuses(world, node)["n0"] is MemberStatus.ALIVE
        assert world.serfs[node].members()[0].status_ltime > 40


def test_an_intent_stops_travelling_when_all_know_it() -> None:
    """Two nodes that echo each other's intents for ever filled queues in Consul clusters."""
    world = World(5)
    world.run(10.0)
    for ltime in (50, 51):
        say(world, "n0", LeaveIntent(ltime=ltime, node="n4"))
    say(world, "n1", LeaveIntent(ltime=52, node="stranger"))
    world.run(10.0)
    assert all(sum(serf.queue_depths.values()) == 0 for serf in world.serfs.values())


def test_force_leave_turns_failed_into_left_everywhere() -> None:
    world = World(3)
    world.crash("n2")
    world.step("n0", ForceLeaveRequested(node="n2"))
    world.run(2.0)
    assert statuses(world, "n0")["n2"] is statuses(world, "n1")["n2"] is MemberStatus.LEFT


def test_prune_forgets_at_once_everywhere() -> None:
    world = World(3)
    world.crash("n2")
    world.step("n0", ForceLeaveRequested(node="n2", is_prune=True))
    world.run(2.0)
    for node in ("n0", "n1"):
        assert "n2" not in statuses(world, node)
        assert changes(world, node)[-1] == ("n2", StatusChange.REAPED)


def test_a_member_that_leaves_is_pruned_only_after_swim_has_let_it_go() -> None:
    world = World(3)
    say(world, "n0", LeaveIntent(ltime=40, node="n9"))
    world.serfs["n0"].member_joined(View("n9", address_of("n9")), world.now)
    say(world, "n0", LeaveIntent(ltime=41, node="n9", is_prune=True))
    assert statuses(world, "n0")["n9"] is MemberStatus.LEAVING
    world.run(6.5)
    assert "n9" not in statuses(world, "n0")


def test_force_leave_of_nobody_names_who_failed() -> None:
    world = World(3)
    world.crash("n2")
    with pytest.raises(NotFoundError, match="failed members: n2"):
        world.step("n0", ForceLeaveRequested(node="n7"))


def test_an_event_reaches_all_once_and_its_sender_too() -> None:
    world = World(6)
    world.step("n3", EventRequested(name="deploy", payload=b"7"))
    world.run(3.0)
    assert [events(world, node) for node in world.serfs] == [[("deploy", b"7")]] * 6


def test_an_event_that_would_not_travel_is_refused() -> None:
    world = World(1)
    before = world.serfs["n0"].local_state(False)
    with pytest.raises(InvalidRequestError, match="at most 512"):
        world.step("n0", EventRequested(name="deploy", payload=bytes(512)))
    with pytest.raises(InvalidRequestError, match="UTF-8"):
        world.step("n0", EventRequested(name="\ud800"))
    assert world.serfs["n0"].local_state(False) == before


def test_events_are_replayed_to_a_joiner_unless_it_ignores_the_old() -> None:
    world = World(2)
    world.step("n0", EventRequested(name="old"))
    world.start("n5")
    assert events(world, "n5") == [("old", b"")]
    ignoring = world.start("n6", is_known=False)
    world.step("n6", JoinStarted(ignores_old=True))
    world.push_pull("n6", "n0", is_join=True)
    world.step("n6", JoinEnded(joined=1))
    assert events(world, "n6") == []
    world.step("n0", EventRequested(name="new"))
    world.push_pull("n6", "n0")
    assert events(world, "n6") == [("new", b"")]
    assert ignoring.stage is Stage.MEMBER


def test_an_event_that_is_faster_than_the_answer_to_a_join_is_judged_by_that_answer() -> None:
    world = World(2)
    world.step("n0", EventRequested(name="old"))
    world.start("n6", is_known=False)
    world.step("n6", JoinStarted(ignores_old=True))
    say(world, "n6", UserEvent(ltime=1, name="old", payload=b""))
    say(world, "n6", UserEvent(ltime=9, name="new", payload=b""))
    assert events(world, "n6") == []
    world.push_pull("n6", "n0", is_join=True)
    assert events(world, "n6") == [("new", b"")]
    world.step("n6", JoinEnded(joined=1))
    assert events(world, "n6") == [("new", b"")]


def test_events_that_waited_for_a_join_that_reached_nobody_are_delivered() -> None:
    world = World()
    world.start("n6")
    world.step("n6", JoinStarted(ignores_old=True))
    say(world, "n6", UserEvent(ltime=1, name="stray", payload=b""))
    assert events(world, "n6") == []
    world.step("n6", JoinEnded(joined=0))
    assert events(world, "n6") == [("stray", b"")]


def test_a_join_that_reached_somebody_is_announced_with_the_time_of_the_cluster() -> None:
    world = World(2)
    say(world, "n0", JoinIntent(ltime=100, node="n1"))
    world.start("n5")
    world.step("n5", JoinEnded(joined=1))
    world.run(2.0)
    member = world.serfs["n1"].member("n5")
    assert member is not None
    assert member.status_ltime > 100


def test_left_members_in_a_push_pull_count_as_left_after_their_last_known_time() -> None:
    world = World(2)
    world.crash("n1")
    state = SerfState(ltime=9, status_ltimes={"n1": 4}, left_members=("n1",), event_ltime=1, events=(), query_ltime=1)
    world.serfs["n0"].merge_state(encode_serf(state), False, world.now)
    member = world.serfs["n0"].member("n1")
    assert member is not None
    assert (member.status, member.status_ltime) == (MemberStatus.LEFT, 5)


def test_times_absurdly_far_ahead_are_dropped_and_counted() -> None:
    world = World(2)
    say(world, "n0", LeaveIntent(ltime=2**63, node="n1"))
    say(world, "n0", JoinIntent(ltime=2**64 - 1, node="n1"))
    say(world, "n0", UserEvent(ltime=2**62, name="x", payload=b""))
    state = SerfState(
        ltime=2**64 - 1,
        status_ltimes={},
        left_members=(),
        event_ltime=2**64 - 1,
        events=(PastEvents(ltime=2**64 - 1, events=(PastEvent(name="x", payload=b""),)),),
        query_ltime=2**64 - 1,
    )
    world.serfs["n0"].merge_state(encode_serf(state), True, world.now)
    assert world.serfs["n0"].drops == {"intent_ltime": 2, "event_ltime": 2, "state_ltime": 3}
    assert events(world, "n0") == []
    world.step("n0", EventRequested(name="still"))
    assert events(world, "n0") == [("still", b"")]


def test_tags_change_at_once_here_and_are_announced() -> None:
    world = World(2)
    effects = world.step("n0", TagsChanged(tags={"zone": "eu"}))
    assert ChangeMeta() in effects
    assert world.serfs["n0"].meta() == encode_tags({"zone": "eu"})
    world.serfs["n1"].member_updated(world.view("n0"), world.now)
    world.perform("n1", world.serfs["n1"].drain())
    member = world.serfs["n1"].member("n0")
    assert member is not None
    assert member.tags == {"zone": "eu"}
    assert changes(world, "n1")[-1] == ("n0", StatusChange.UPDATED)
    with pytest.raises(InvalidRequestError, match="at most 512"):
        world.step("n0", TagsChanged(tags={"long": "x" * 600}))
    assert world.serfs["n0"].meta() == encode_tags({"zone": "eu"})


def test_an_ack_teaches_distance_and_a_broken_one_is_counted() -> None:
    world = World(2)
    there = CoordinatePayload(vector=(0.01,) * 8, error=0.1, adjustment=0.0, height=1e-5)
    serf = world.serfs["n0"]
    before = serf.ack_payload()
    serf.acked("n1", 0.02, encode_coordinate(there), world.now)
    assert serf.coordinate("n1") == there
    assert serf.ack_payload() != before
    assert serf.estimated_rtt_s("n0", "n1") is not None
    serf.acked("n1", 0.02, b"\x07rubbish", world.now)
    serf.acked("n1", 11.0, encode_coordinate(there), world.now)
    serf.acked("stranger", 0.02, encode_coordinate(there), world.now)
    assert serf.coordinate("stranger") is None
    assert serf.drops == {"coordinate_coordinate_version": 1, "coordinate_not_usable": 1}


def test_a_failed_member_is_dialled_until_it_is_back_even_after_it_was_reaped() -> None:
    world = World(3, SerfConfig(failed_keep_s=600.0))
    world.crash("n2")
    world.run(700.0)
    assert "n2" not in statuses(world, "n0")
    assert changes(world, "n0")[-1] == ("n2", StatusChange.REAPED)
    world.effects["n0"].clear()
    world.run(62.0)
    assert len(world.told("n0", Rejoin)) >= 2
    world.serfs["n0"].member_joined(world.view("n2"), world.now)
    world.effects["n0"].clear()
    world.run(62.0)
    assert world.told("n0", Rejoin) == []


def test_who_left_is_not_dialled() -> None:
    world = World(3)
    world.step("n2", LeaveRequested())
    world.run(5.0)
    del world.serfs["n2"]
    world.run(60.0)
    assert world.told("n0", Rejoin) == []


def test_a_restart_takes_up_clocks_and_looks_for_its_peers() -> None:
    world = World(3)
    world.step("n0", EventRequested(name="before"))
    world.run(3.0)
    saved = world.told("n1", PersistPeers)[-1]
    assert isinstance(saved, PersistPeers)
    assert {peer.node for peer in saved.peers} == {"n0", "n2"}
    del world.serfs["n1"]
    world.start("n1", saved=saved, is_known=False)
    world.run(2.0)
    assert {effect.node for effect in world.told("n1", Rejoin) if isinstance(effect, Rejoin)} == {"n0", "n2"}
    world.push_pull("n1", "n0", is_join=True)
    world.step("n0", EventRequested(name="after"))
    world.push_pull("n1", "n0")
    assert events(world, "n1") == [("after", b"")]


def test_what_was_saved_is_saved_again_only_when_it_changed() -> None:
    world = World(3)
    world.run(5.0)
    count = len(world.told("n0", PersistPeers))
    for _ in range(20):
        world.push_pull("n0", "n1")
        world.run(1.0)
    assert len(world.told("n0", PersistPeers)) == count


def test_after_a_leave_no_peers_are_saved() -> None:
    world = World(2)
    world.step("n0", LeaveRequested())
    world.run(5.0)
    saved = world.told("n0", PersistPeers)[-1]
    assert isinstance(saved, PersistPeers)
    assert saved.peers == ()


def test_saved_peers_without_sense_do_no_harm() -> None:
    peers = (
        SavedPeer(node="n0", address=Address("10.0.0.77", 1)),
        SavedPeer(node="me-too", address=address_of("n0")),
    )
    world = World()
    world.start("n0", saved=PersistPeers(peers=peers, ltime=2**64, event_ltime=-5, query_ltime=0))
    world.run(60.0)
    assert world.told("n0", Rejoin) == []


def test_coalesced_changes_come_together_and_only_when_they_are_news() -> None:
    config = SerfConfig(member_coalesce_s=2.0, member_quiet_s=1.0)
    world = World(1, config)
    serf = world.serfs["n0"]
    world.run(3.0)
    world.effects["n0"].clear()
    for number in range(1, 4):
        serf.member_joined(View(f"n{number}", address_of(f"n{number}")), world.now)
    serf.member_left(View("n3", address_of("n3")), False, world.now)
    world.run(1.4)
    told = world.told("n0", StatusChanged)
    assert [
        (effect.change, [member.node for member in effect.members])
        for effect in told
        if isinstance(effect, StatusChanged)
    ] == [(StatusChange.FAILED, ["n3"]), (StatusChange.JOINED, ["n1", "n2"])]
    world.effects["n0"].clear()
    serf.member_left(View("n1", address_of("n1")), False, world.now)
    serf.member_joined(View("n1", address_of("n1")), world.now)
    world.run(1.4)
    assert changes(world, "n0") == [], "it was told as joined before"


def test_coalesced_events_leave_the_newest_of_each_name() -> None:
    world = World(1, SerfConfig(event_coalesce_s=2.0, event_quiet_s=1.0))
    for ltime, name, is_coalescable in ((1, "a", True), (3, "a", True), (2, "a", True), (4, "b", False)):
        message = UserEvent(ltime=ltime, name=name, payload=b"%d" % ltime, is_coalescable=is_coalescable)
        say(world, "n0", message)
    assert events(world, "n0") == [("b", b"4")]
    world.run(1.4)
    assert events(world, "n0") == [("b", b"4"), ("a", b"3")]


def test_broadcasts_fit_the_room_with_their_overhead_and_intents_go_first() -> None:
    world = World(2)
    world.run(5.0)
    serf = world.serfs["n0"]
    for number in range(10):
        serf.step(EventRequested(name=f"e{number}", payload=bytes(300)), world.now)
    serf.step(JoinEnded(joined=1), world.now)
    payloads = serf.broadcasts(2, 1000)
    assert sum(len(payload) + 3 for payload in payloads) <= 1000
    assert [payload[0] for payload in payloads] == [1, 3, 3]


def test_a_name_conflict_of_others_is_noted_once() -> None:
    world = World(2)
    serf = world.serfs["n0"]
    other = View("n1", Address("10.9.9.9", 7946))
    for _ in range(5):
        serf.name_conflict(world.view("n1"), Alive(incarnation=1, node="n1", address=other.address), world.now)
    notes = [effect for effect in serf.drain() if type(effect).__name__ == "Noted"]
    assert len(notes) == 1


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=80), st.tuples(st.integers(0, 9), st.binary(max_size=60)))))
def test_no_bytes_whatsoever_do_harm(payloads: list[bytes | tuple[int, bytes]]) -> None:
    world = World(2)
    serf = world.serfs["n0"]
    for payload in payloads:
        raw = payload if isinstance(payload, bytes) else bytes((payload[0],)) + payload[1]
        serf.user_message(raw, address_of("n1"), world.now)
        serf.merge_state(raw, True, world.now)
        serf.acked("n1", 0.01, raw, world.now)
        serf.member_updated(View("n1", address_of("n1"), raw), world.now)
        serf.check_invariants()


ltimes = st.one_of(st.integers(0, 20), st.sampled_from([2**40, 2**63, 2**64 - 1]))
names = st.sampled_from(["n0", "n1", "n2", "n9", ""])
said = st.one_of(
    st.builds(LeaveIntent, ltime=ltimes, node=names, is_prune=st.booleans()),
    st.builds(JoinIntent, ltime=ltimes, node=names),
    st.builds(UserEvent, ltime=ltimes, name=names, payload=st.binary(max_size=4), is_coalescable=st.booleans()),
)
happenings = st.one_of(
    st.tuples(st.just("say"), said),
    st.tuples(st.just("join"), names),
    st.tuples(st.just("die"), names),
    st.tuples(st.just("leave"), names),
    st.tuples(st.just("wait"), st.integers(1, 400)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(happenings, max_size=40))
def test_members_and_messages_in_any_order_leave_a_sound_state(script: list[tuple[str, object]]) -> None:
    """And we stay a member in our own eyes, whatever others say."""
    world = World(2)
    serf = world.serfs["n0"]
    for kind, what in script:
        if kind == "wait" and isinstance(what, int):
            world.now = Instant(world.now + what)
            for _ in range(5):
                serf.step(Tick(), world.now)
        elif isinstance(what, str) and what not in {"n0", ""}:
            view = View(what, address_of(what))
            if kind == "join":
                serf.member_joined(view, world.now)
            else:
                serf.member_left(view, kind == "leave", world.now)
        elif isinstance(what, LeaveIntent | JoinIntent | UserEvent):
            serf.user_message(encode_serf(what), address_of("n1"), world.now)
        serf.drain()
        serf.check_invariants()
        own = serf.member("n0")
        assert own is not None
        assert own.status is MemberStatus.ALIVE
