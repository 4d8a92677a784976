"""Which peers vote, and in which steps the group gets there."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.subgroup import Change, ChangeKind, Peer, Seat, SubgroupConfig, next_change, target_size
from orca.model.ids import NodeId

CONFIG = SubgroupConfig()
HOUR = 3600.0


def peer(name: str, seat: Seat = Seat.NONE, *, alive_for_s: float = HOUR, **rest: object) -> Peer:
    return msgspec.convert(
        {"node": name, "seat": seat.value, "alive_for_s": alive_for_s, "has_caught_up": True, **rest}, Peer
    )


def dead(name: str, seat: Seat, for_s: float) -> Peer:
    return peer(name, seat, alive_for_s=0.0, is_alive=False, dead_for_s=for_s)


def settle(peers: list[Peer], leader: str, config: SubgroupConfig = CONFIG, *, steps_max: int = 60) -> list[Change]:
    """Make every change that is asked for, on `peers` in place, until none is."""
    made: list[Change] = []
    while (change := next_change(peers, NodeId(leader), config)) is not None:
        made.append(change)
        assert len(made) <= steps_max, f"the group never comes to rest: {made[-6:]}"
        place = next(index for index, one in enumerate(peers) if one.node == change.node)
        if change.kind is ChangeKind.HAND_OVER:
            assert peers[place].seat is Seat.VOTER, "only a voter can lead"
            assert peers[place].is_alive, "leadership went to a dead voter"
            leader = change.node
            continue
        seat = {ChangeKind.ADD_LEARNER: Seat.LEARNER, ChangeKind.PROMOTE: Seat.VOTER, ChangeKind.REMOVE: Seat.NONE}
        peers[place] = msgspec.structs.replace(peers[place], seat=seat[change.kind])
        voters = [one for one in peers if one.seat is Seat.VOTER]
        alive = [one for one in voters if one.is_alive]
        assert len(alive) * 2 > len(voters), f"{change} left {len(alive)} of {len(voters)} voters alive"
    return made


def voters(peers: list[Peer]) -> list[str]:
    return [str(one.node) for one in peers if one.seat is Seat.VOTER]


@pytest.mark.parametrize(
    ("nodes", "size"), [(0, 1), (1, 1), (2, 1), (3, 3), (6, 3), (7, 5), (24, 5), (25, 7), (500, 7)]
)
def test_the_size_follows_the_cluster(nodes: int, size: int) -> None:
    assert target_size(nodes) == size


def test_a_wish_for_more_voters_than_nodes_gives_what_is_there() -> None:
    assert target_size(4, wanted=5) == 3
    assert target_size(2, wanted=3) == 1


@pytest.mark.parametrize("wanted", [0, 2, 9, -1])
def test_an_even_or_absurd_size_is_refused(wanted: int) -> None:
    with pytest.raises(ValueError, match="odd number from 1 to 7"):
        SubgroupConfig(wanted=wanted)


def test_the_third_node_makes_a_group_of_three_and_both_learners_come_first() -> None:
    peers = [peer("a", Seat.VOTER), peer("b"), peer("c")]
    kinds = [(change.kind, change.node) for change in settle(peers, "a")]
    assert kinds == [
        (ChangeKind.ADD_LEARNER, "b"),
        (ChangeKind.ADD_LEARNER, "c"),
        (ChangeKind.PROMOTE, "b"),
        (ChangeKind.PROMOTE, "c"),
    ]


def test_a_learner_that_waits_alone_too_long_is_promoted_alone() -> None:
    peers = [
        peer("a", Seat.VOTER),
        peer("b", Seat.LEARNER, learner_for_s=31.0),
        peer("c", Seat.LEARNER, has_caught_up=False),
    ]
    change = next_change(peers, NodeId("a"), CONFIG)
    assert change is not None
    assert (change.kind, change.node) == (ChangeKind.PROMOTE, "b")


def test_a_voter_that_is_dead_for_a_short_time_keeps_its_seat() -> None:
    peers = [peer("a", Seat.VOTER), peer("b", Seat.VOTER), dead("c", Seat.VOTER, 59.0), peer("d")]
    assert next_change(peers, NodeId("a"), CONFIG) is None


def test_a_dead_voter_is_replaced_by_a_learner_first_and_removed_last() -> None:
    peers = [peer("a", Seat.VOTER), peer("b", Seat.VOTER), dead("c", Seat.VOTER, 61.0), peer("d")]
    made = settle(peers, "a")
    assert [(change.kind, change.node) for change in made] == [
        (ChangeKind.ADD_LEARNER, "d"),
        (ChangeKind.PROMOTE, "d"),
        (ChangeKind.REMOVE, "c"),
    ]
    assert "dead" in made[0].reason
    assert voters(peers) == ["a", "b", "d"]


def test_a_dead_voter_stays_when_nobody_can_take_its_seat() -> None:
    """Three of which one is dead need two; a group of two would need two as well, and know less."""
    peers = [peer("a", Seat.VOTER), peer("b", Seat.VOTER), dead("c", Seat.VOTER, 10 * HOUR)]
    assert next_change(peers, NodeId("a"), CONFIG) is None


def test_a_voter_that_comes_back_in_time_gets_its_learner_sent_home() -> None:
    peers = [peer("a", Seat.VOTER), peer("b", Seat.VOTER), peer("c", Seat.VOTER), peer("d", Seat.LEARNER)]
    change = next_change(peers, NodeId("a"), CONFIG)
    assert change is not None
    assert (change.kind, change.node) == (ChangeKind.REMOVE, "d")


def test_a_leader_that_leaves_is_replaced_then_hands_over_then_goes() -> None:
    peers = [peer("a", Seat.VOTER, is_leaving=True), peer("b", Seat.VOTER), peer("c", Seat.VOTER), peer("d")]
    kinds = [(change.kind, change.node) for change in settle(peers, "a")]
    assert kinds == [
        (ChangeKind.ADD_LEARNER, "d"),
        (ChangeKind.PROMOTE, "d"),
        (ChangeKind.HAND_OVER, "b"),
        (ChangeKind.REMOVE, "a"),
    ]


def test_leadership_goes_to_the_voter_that_has_most() -> None:
    peers = [
        peer("a", Seat.VOTER, is_leaving=True),
        peer("b", Seat.VOTER, lag=900),
        peer("c", Seat.VOTER, lag=3),
        peer("d", Seat.VOTER, lag=5),
    ]
    change = next_change(peers, NodeId("a"), CONFIG)
    assert change is not None
    assert (change.kind, change.node) == (ChangeKind.HAND_OVER, "c")


def test_two_nodes_that_remain_of_three_are_led_by_one_voter() -> None:
    peers = [peer("a", Seat.VOTER), peer("b", Seat.VOTER), peer("c", Seat.VOTER, is_leaving=True)]
    settle(peers, "a")
    assert voters(peers) == ["a"]


def test_zones_come_before_age_and_age_before_load() -> None:
    peers = [
        peer("a", Seat.VOTER, zone="x"),
        peer("b", zone="x", alive_for_s=100 * HOUR),
        peer("c", zone="y", alive_for_s=60.0, load=0.9),
        peer("d", zone="z", alive_for_s=60.0, load=0.1),
        peer("e", zone="z", alive_for_s=61.0, load=0.9),
    ]
    settle(peers, "a")
    assert voters(peers) == ["a", "c", "d"]


def test_a_crowded_zone_gives_a_voter_to_an_empty_one_once_everything_is_calm() -> None:
    peers = [
        peer("a", Seat.VOTER, zone="x"),
        peer("b", Seat.VOTER, zone="x"),
        peer("c", Seat.VOTER, zone="y"),
        peer("d", zone="z"),
    ]
    young = [msgspec.structs.replace(one, alive_for_s=30.0) for one in peers]
    assert next_change(young, NodeId("a"), CONFIG) is None
    settle(peers, "a")
    assert voters(peers) == ["a", "c", "d"]


def test_everybody_dead_but_the_leader_changes_nothing() -> None:
    peers = [peer("a", Seat.VOTER), dead("b", Seat.VOTER, HOUR), dead("c", Seat.VOTER, HOUR), peer("d"), peer("e")]
    change = next_change(peers, NodeId("a"), CONFIG)
    assert change is None or change.kind is ChangeKind.ADD_LEARNER


_peers = st.lists(
    st.builds(
        Peer,
        node=st.sampled_from([NodeId(f"n{index:02}") for index in range(30)]),
        zone=st.sampled_from(["", "x", "y", "z"]),
        seat=st.sampled_from(list(Seat)),
        is_alive=st.booleans(),
        alive_for_s=st.floats(0, 1e6),
        dead_for_s=st.floats(0, 200),
        load=st.floats(0, 1),
        lag=st.none() | st.integers(0, 10**6),
        has_caught_up=st.just(True),
        is_leaving=st.booleans(),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda one: one.node,
)


@settings(max_examples=300, deadline=None)
@given(peers=_peers, wanted=st.sampled_from([None, 1, 3, 5, 7]))
def test_any_group_comes_to_rest_at_a_good_one(peers: list[Peer], wanted: int | None) -> None:
    """Every step keeps a quorum alive (asserted on the way), and the end needs no further step."""
    leader = msgspec.structs.replace(peers[0], seat=Seat.VOTER, is_alive=True, dead_for_s=0.0)
    peers = [leader, *peers[1:]]
    group = [one for one in peers if one.seat is Seat.VOTER]
    if sum(one.is_alive for one in group) * 2 <= len(group):
        return  # such a leader could commit nothing
    config = SubgroupConfig(wanted=wanted)
    settle(peers, leader.node, config)
    size = target_size(sum(not one.is_leaving for one in peers), wanted)
    idle = [one for one in peers if one.seat is Seat.NONE and one.is_alive and not one.is_leaving]
    good = [
        one for one in peers if one.seat is Seat.VOTER and not one.is_leaving and (one.is_alive or one.dead_for_s < 60)
    ]
    assert len(good) >= size or not idle, f"{len(good)} lasting voters of {size}, and {idle} could serve"


@settings(max_examples=100, deadline=None)
@given(peers=_peers, order=st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_peers(peers: list[Peer], order: object) -> None:
    leader = peers[0].node
    shuffled = sorted(peers, key=lambda _one: order.random())  # type: ignore[attr-defined]
    assert next_change(peers, leader, CONFIG) == next_change(shuffled, leader, CONFIG)


def test_workers_get_no_seat_and_do_not_make_the_group_larger() -> None:
    peers = [peer("a", Seat.VOTER), peer("b"), *(peer(f"w{number}", may_vote=False) for number in range(5))]
    assert settle(peers, "a") == [], "two members and any number of workers have one voter"
    peers.append(peer("c"))
    settle(peers, "a")
    assert voters(peers) == ["a", "b", "c"]


def test_a_dead_voter_is_not_replaced_by_a_worker() -> None:
    peers = [peer("a", Seat.VOTER), peer("b", Seat.VOTER), dead("c", Seat.VOTER, HOUR), peer("w", may_vote=False)]
    settle(peers, "a")
    assert "w" not in voters(peers)
    peers.append(peer("d"))
    settle(peers, "a")
    assert voters(peers) == ["a", "b", "d"]


def test_a_worker_that_votes_gives_its_seat_to_a_member() -> None:
    peers = [peer("a", Seat.VOTER), peer("b", Seat.VOTER), peer("c", Seat.VOTER, may_vote=False), peer("d")]
    made = settle(peers, "a")
    assert voters(peers) == ["a", "b", "d"]
    assert made[-1].reason == "it is a worker, which does not vote"


def test_a_worker_that_leads_hands_over_before_it_gives_up_its_seat() -> None:
    peers = [peer("a", Seat.VOTER, may_vote=False), peer("b", Seat.VOTER), peer("c", Seat.VOTER), peer("d")]
    made = settle(peers, "a")
    assert voters(peers) == ["b", "c", "d"]
    assert [one.kind for one in made][-2:] == [ChangeKind.HAND_OVER, ChangeKind.REMOVE]
