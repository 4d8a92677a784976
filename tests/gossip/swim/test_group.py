"""Groups of members on a virtual clock: what they come to believe of each other, and when."""

import pytest

from gossip.messages import Address
from gossip.swim import (
    LAN,
    ORCA,
    ChangeKind,
    JoinEnded,
    JoinRequested,
    LeaveEnded,
    LeaveRequested,
    MemberState,
    SwimConfig,
)
from tests.gossip.swim.world import Peer, World


def believed(peers: list[Peer], name: str) -> set[MemberState | None]:
    return {peer.state_of(name) for peer in peers if peer.is_up}


def false_deaths(peers: list[Peer], living: set[str]) -> list[tuple[str, str]]:
    return [
        (peer.name, who)
        for peer in peers
        for _, kind, who in peer.changes
        if kind is ChangeKind.FAILED and who in living
    ]


@pytest.mark.parametrize("count", [2, 3, 12])
def test_everybody_finds_everybody(count: int) -> None:
    peers = World().group(count)
    for peer in peers:
        assert sorted(peer.upper.joined) == sorted(other.name for other in peers)
        assert {member.meta for member in peer.swim.members()} == {other.name.encode() for other in peers}


def test_a_burst_of_joins_settles_in_a_second() -> None:
    """Serf took up to a minute (measured); the extra push/pulls are for this."""
    world = World(seed=5)
    peers = [world.add(f"m{number}") for number in range(32)]
    for peer in peers[1:]:
        world.tell(peer, JoinRequested(handle=1, addresses=(peers[0].address,)))
    world.run(1.5)
    assert [len(peer.swim) for peer in peers] == [32] * 32


def test_what_a_join_stirs_up_goes_as_it_is_and_regular_exchanges_go_compressed_in_both_directions() -> None:
    """Compression is dear, and dearest when many join at once."""
    world = World()
    world.group(3)
    formed = [one for at, one in world.exchanged if at < 2.0]
    assert len(formed) >= 2 * 2 + 2 * 2 * LAN.extra_push_pulls, "joins and what follows them, there and back"
    assert not any(one.is_compressed for one in formed)
    world.run(60.0)
    later = [one for at, one in world.exchanged if at > 30.0]
    assert later
    assert all(one.is_compressed for one in later)


def test_a_join_tells_who_answered() -> None:
    world = World()
    first, second = world.add("a"), world.add("b")
    world.tell(second, JoinRequested(handle=7, addresses=(first.address, Address("10.9.9.9", 1), second.address)))
    world.run(1.0)
    (end,) = second.ends
    assert isinstance(end, JoinEnded)
    assert (end.handle, end.joined) == (7, 1)
    assert [address.host for address, _ in end.failures] == ["10.9.9.9"]


@pytest.mark.parametrize(
    ("config", "count", "bound_s"), [(LAN, 3, 7.5), (LAN, 16, 11.0), (ORCA, 3, 3.5), (ORCA, 16, 5.5)]
)
def test_a_crash_is_found_in_time_by_everybody(config: SwimConfig, count: int, bound_s: float) -> None:
    world = World(seed=3, config=config)
    peers = world.group(count)
    victim = peers[-1]
    world.kill(victim)
    world.run(bound_s)
    assert believed(peers, victim.name) == {MemberState.DEAD}
    assert all((victim.name, False) in peer.upper.left for peer in peers[:-1])
    assert false_deaths(peers, {peer.name for peer in peers[:-1]}) == []


def test_a_graceful_leave_is_no_failure() -> None:
    world = World()
    peers = world.group(5)
    world.tell(peers[1], LeaveRequested())
    world.run(3.0)
    assert any(isinstance(end, LeaveEnded) for end in peers[1].ends)
    assert believed([peers[0], *peers[2:]], "m1") == {MemberState.LEFT}
    assert all(("m1", True) in peer.upper.left for peer in [peers[0], *peers[2:]])
    world.kill(peers[1])
    world.run(30.0)
    assert false_deaths(peers, {"m1"}) == []


def test_the_last_member_leaves_at_once() -> None:
    world = World()
    alone = world.add("a")
    world.tell(alone, LeaveRequested())
    assert isinstance(alone.ends[0], LeaveEnded)


def test_one_blocked_direction_between_two_members_kills_nobody() -> None:
    """Others ping on behalf of the one that hears nothing (SWIM §3.1)."""
    world = World(seed=2)
    peers = world.group(6)
    world.drops = lambda source, target: (source, target) == ("m0", "m1")
    world.run(120.0)
    assert false_deaths(peers, {peer.name for peer in peers}) == []
    assert peers[0].swim.counts["probes_indirect"] > 0


def test_heavy_loss_kills_nobody() -> None:
    world = World(seed=4)
    peers = world.group(10)
    world.loss = 0.2
    world.run(300.0)
    assert false_deaths(peers, {peer.name for peer in peers}) == []


def test_a_false_suspicion_is_refuted() -> None:
    world = World(seed=2)
    peers = world.group(5)
    world.drops = lambda _source, target: target == "m1"
    world.run(3.0)
    assert MemberState.SUSPECT in believed(peers, "m1")
    world.drops = lambda _source, _target: False
    world.run(10.0)
    assert believed(peers, "m1") == {MemberState.ALIVE}
    assert any(kind is ChangeKind.REFUTED for peer in peers for _, kind, _ in peer.changes)
    assert peers[1].swim.counts["refutes"] >= 1


def test_a_partition_heals_when_somebody_joins_again() -> None:
    world = World(seed=6)
    peers = world.group(6)
    half = {"m0", "m1", "m2"}
    world.drops = lambda source, target: (source in half) != (target in half)
    world.run(60.0)
    assert believed(peers[:3], "m4") <= {MemberState.DEAD, None}
    world.drops = lambda _source, _target: False
    world.tell(peers[0], JoinRequested(handle=2, addresses=(peers[4].address,)))
    world.run(15.0)
    for peer in peers:
        assert believed(peers, peer.name) == {MemberState.ALIVE}


def test_a_member_that_stands_still_is_missed_and_buries_nobody() -> None:
    """Lifeguard: the slow one must not take the healthy for dead when it wakes up."""
    world = World(seed=8)
    peers = world.group(8)
    for _ in range(6):
        world.pause(peers[3], 7.0)
        world.run(12.0)
    assert false_deaths(peers, {peer.name for peer in peers} - {"m3"}) == []
    world.run(20.0)
    assert believed(peers, "m3") == {MemberState.ALIVE}


def test_a_restarted_member_refutes_what_is_known_of_its_earlier_life() -> None:
    world = World(seed=9)
    peers = world.group(4)
    port = peers[3].address.port
    world.kill(peers[3])
    world.run(15.0)
    again = world.add("m3", port=port)
    world.tell(again, JoinRequested(handle=1, addresses=(peers[0].address,)))
    world.run(10.0)
    assert believed([*peers[:3], again], "m3") == {MemberState.ALIVE}
    member = peers[0].swim.member("m3")
    assert member is not None
    assert member.incarnation >= 2


def test_a_name_cannot_be_taken_at_another_address_while_its_owner_lives_or_is_dead_for_a_short_time() -> None:
    world = World(seed=9)
    peers = world.group(3)
    thief = Peer(world, "m2", Address("10.0.0.1", 9999), LAN)
    world.by_address[thief.address] = thief
    world.tell(thief, JoinRequested(handle=1, addresses=(peers[0].address,)))
    world.run(2.0)
    assert peers[0].upper.conflicts
    member = peers[0].swim.member("m2")
    assert member is not None
    assert member.address == peers[2].address


def test_a_name_that_was_left_can_be_taken_elsewhere() -> None:
    world = World(seed=9)
    peers = world.group(3)
    world.tell(peers[2], LeaveRequested())
    world.run(3.0)
    world.kill(peers[2])
    other = world.add("m2", port=9999)
    world.tell(other, JoinRequested(handle=1, addresses=(peers[0].address,)))
    world.run(5.0)
    assert believed(peers[:2], "m2") == {MemberState.ALIVE}
    member = peers[0].swim.member("m2")
    assert member is not None
    assert member.address == other.address


def test_the_dead_are_forgotten_after_a_while() -> None:
    world = World(seed=1)
    peers = world.group(4)
    world.kill(peers[3])
    world.run(60.0)
    assert believed(peers[:3], "m3") == {None}
    assert all(peer.swim.counts["forgotten"] == 1 for peer in peers[:3])


def test_a_quiet_group_sends_a_ping_and_an_ack_a_second_each() -> None:
    world = World(seed=1)
    world.group(10)
    world.run(60.0)
    before = world.packets
    world.run(60.0)
    assert (world.packets - before) / 600 == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_the_fast_profile_buries_nobody_falsely_while_a_quarter_stalls(seed: int) -> None:
    """Stalls of up to two seconds: what the fast profile promises to sit out."""
    world = World(seed=seed, config=ORCA)
    peers = world.group(16)
    stalling = peers[::4]
    for _ in range(20):
        for peer in stalling:
            world.pause(peer, world.rng.uniform(0.1, 2.0))
        world.run(5.0)
    assert false_deaths(peers, {peer.name for peer in peers} - {peer.name for peer in stalling}) == []


def test_one_seed_gives_one_run() -> None:
    runs = []
    for _ in range(2):
        world = World(seed=11)
        peers = world.group(6)
        world.kill(peers[5])
        world.run(30.0)
        runs.append([peer.changes for peer in peers])
    assert runs[0] == runs[1]


def test_the_first_news_after_a_silence_crosses_the_group_at_once() -> None:
    """memberlist sends the first of it up to a gossip interval later, and so does everybody who passes it on."""
    world = World()
    peers = world.group(32)
    world.run(5.0)
    late = world.add("late")
    began = world.now
    world.tell(late, JoinRequested(handle=1, addresses=(peers[0].address,)))
    world.run(LAN.gossip_interval_s)
    assert sum(peer.state_of("late") is MemberState.ALIVE for peer in peers) >= 28, world.now - began


def test_an_idle_member_wakes_for_its_probes_only() -> None:
    world = World()
    peers = world.group(3)
    world.run(30.0)
    assert all(peer.swim.deadline() - world.now > 0 for peer in peers)
    world.run(10.0)
    sent = world.packets
    world.run(10.0)
    assert world.packets - sent <= 3 * 2 * 11, "a ping and an ack a second each"
