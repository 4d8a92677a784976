"""What a simulated member of a gossip cluster does in trouble, and what its connections do."""

from gossip.effects import OpenStream
from gossip.events import StreamFailed
from gossip.machine import config_of
from gossip.serf import MemberStatus
from gossip.swim import LAN, ORCA
from simulations.members.experiment import Setting, percentile, repeat
from simulations.members.group import Group, address_of
from simulations.members.streams import Streams
from simulations.network import Network
from simulations.world import World


def formed(count: int = 3, *, key: bytes = b"", notices_stalls: bool = True) -> Group:
    group = Group(World(1), config_of(ORCA), key=key, notices_stalls=notices_stalls)
    group.form(count)
    group.run(10)
    assert group.disagreement() == ""
    return group


def status(group: Group, observer: str, subject: str) -> MemberStatus | None:
    member = group.members[observer].machine.serf.member(subject)
    return None if member is None else member.status


def test_a_crashed_member_comes_back_by_the_peers_that_it_had_kept() -> None:
    group = formed()
    group.members["n2"].crash()
    group.run(10)
    assert status(group, "n1", "n2") is MemberStatus.FAILED
    group.members["n2"].start()
    group.run(5)
    assert group.members["n2"].life == 2
    assert group.disagreement() == ""


def test_a_member_that_leaves_has_left_for_the_others_and_keeps_nothing() -> None:
    group = formed()
    group.members["n2"].leave()
    group.run(15)
    assert not group.members["n2"].is_up
    assert group.members["n2"].has_forgotten
    assert status(group, "n1", "n2") is status(group, "n3", "n2") is MemberStatus.LEFT


def test_what_comes_while_a_member_stands_still_waits_and_is_answered_then() -> None:
    group = formed()
    member = group.members["n2"]
    sent = member.counts.packets
    member.pause(1.0)
    group.run(0.99)
    assert member.counts.packets == sent
    group.run(0.5)
    assert member.counts.packets > sent
    assert group.disagreement() == ""


def test_a_member_is_told_of_its_own_stall_where_the_driver_would_notice() -> None:
    for notices_stalls in (True, False):
        group = formed(notices_stalls=notices_stalls)
        group.members["n2"].pause(1.0)
        group.run(2)
        assert (group.members["n2"].machine.swim.counts.get("stalls", 0) > 0) is notices_stalls


def test_blocked_messages_wait_in_both_directions_while_timers_go_on() -> None:
    group = formed()
    member = group.members["n2"]
    probes, sent = member.machine.swim.counts["probes"], member.counts.packets
    member.block(2.0)
    group.run(1.9)
    assert member.machine.swim.counts["probes"] > probes
    assert member.counts.packets == sent
    group.run(0.5)
    assert member.counts.packets > sent


def test_a_slow_member_answers_late() -> None:
    group = formed()
    group.members["n2"].slow_s = 0.4
    group.run(20)
    assert group.members["n1"].machine.swim.counts["probes_indirect"] > 3
    assert group.members["n2"].counts.late > 0


def test_a_sealed_group_works_like_a_plain_one() -> None:
    group = formed(key=bytes(32))
    assert {member.machine.drops.get("codec_undecryptable", 0) for member in group.up()} == {0}


class Listener:
    """Hears what becomes of its connections."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def hear(self, event: object) -> None:
        self.heard.append(event)

    def stream_input(self) -> None:
        raise AssertionError("nothing is read here")


def opened(*, cut: bool) -> tuple[World, Listener]:
    world = World(1)
    network: Network[bytes] = Network(world)
    streams, listener = Streams(world, network), Listener()
    one, other = address_of(1), address_of(2)
    streams.attach(one, listener)  # type: ignore[arg-type]
    if cut:
        network.cut(other, one)
        streams.attach(other, Listener())  # type: ignore[arg-type]
    streams.open(one, OpenStream(exchange=7, to=other, data=b"?", timeout_s=5.0))
    world.run(4.0)
    return world, listener


def test_a_connection_is_refused_at_once_where_nobody_listens() -> None:
    _, listener = opened(cut=False)
    assert listener.heard == [StreamFailed(exchange=7, reason="connection refused")]


def test_a_connection_that_is_cut_in_one_direction_runs_into_its_deadline() -> None:
    world, listener = opened(cut=True)
    assert listener.heard == []
    world.run(6.0)
    assert listener.heard == [StreamFailed(exchange=7, reason="no answer in time")]


def test_an_experiment_counts_who_was_buried_and_how_soon_the_dead_were_found() -> None:
    well = repeat(Setting(swim=LAN, members=6, crashes=2, crash_every_s=15, rest_s=20), [1])
    assert (well.false_positives, well.healthy, well.missed) == (0, 0, 0)
    assert len(well.first_s) == len(well.last_s) == 2
    assert 0 < min(well.first_s) <= max(well.last_s) < 20
    silent = repeat(Setting(swim=LAN, members=6, stalling=1, stall_s=25, crashes=0, rest_s=24), [1])
    assert (silent.false_positives, silent.healthy) == (5, 0)


def test_a_percentile_is_one_of_the_values() -> None:
    assert [percentile([3, 1, 2, 4], share) for share in (0.5, 0.99, 0.0)] == [2, 4, 1]
    assert percentile([], 0.5) != percentile([], 0.5)
