from simulations.network import Conditions, Network
from simulations.world import World


def make(conditions: Conditions | None = None, seed: int = 1) -> tuple[World, Network[int], list[tuple[object, int]]]:
    world = World(seed)
    network: Network[int] = Network(world, conditions)
    arrived: list[tuple[object, int]] = []
    for address in ("a", "b"):
        network.attach(address, lambda sender, payload: arrived.append((sender, payload)))
    return world, network, arrived


def send_many(network: Network[int], count: int = 200) -> None:
    for number in range(count):
        network.send("a", "b", number, size=10)


def test_without_faults_everything_arrives_once_and_in_order() -> None:
    world, network, arrived = make()
    send_many(network)
    world.run(10.0)
    assert [number for _, number in arrived] == list(range(200))
    assert (network.counts.delivered, network.counts.bytes_sent) == (200, 2000)


def test_loss_loses_and_nothing_else() -> None:
    world, network, arrived = make(Conditions(loss=0.3))
    send_many(network)
    world.run(10.0)
    numbers = [number for _, number in arrived]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + network.counts.lost == 200
    assert 30 < network.counts.lost < 90


def test_duplicates_arrive_twice() -> None:
    world, network, arrived = make(Conditions(duplication=0.5))
    send_many(network)
    world.run(10.0)
    assert len(arrived) == 200 + network.counts.duplicated > 250
    assert {number for _, number in arrived} == set(range(200))


def test_reordered_messages_are_overtaken() -> None:
    world, network, arrived = make(Conditions(reordering=0.3))
    send_many(network)
    world.run(10.0)
    numbers = [number for _, number in arrived]
    assert numbers != sorted(numbers) == list(range(200))
    assert network.counts.overtaken > 10


def test_a_cut_way_lets_nothing_through_and_the_other_direction_everything() -> None:
    world, network, arrived = make()
    network.cut("a", "b")
    network.send("a", "b", 1)
    network.send("b", "a", 2)
    world.run(1.0)
    assert arrived == [("b", 2)]
    assert network.counts.cut_one_way == network.counts.cut == 1
    network.mend("a", "b")
    network.send("a", "b", 3)
    world.run(2.0)
    assert arrived[-1] == ("a", 3)


def test_what_is_on_its_way_when_the_way_is_cut_is_lost() -> None:
    world, network, arrived = make(Conditions(delay_s_min=0.5))
    network.send("a", "b", 1)
    world.run(0.1)
    network.cut("a", "b")
    network.cut("b", "a")
    world.run(2.0)
    assert arrived == []
    assert (network.counts.cut, network.counts.cut_one_way) == (1, 0)


def test_a_clogged_way_delivers_in_order_when_it_is_free() -> None:
    world, network, arrived = make()
    network.clog("a", "b", until=5.0)
    send_many(network, 10)
    world.run(4.9)
    assert arrived == []
    world.run(5.1)
    assert [number for _, number in arrived] == list(range(10))
    assert network.counts.clogged == 10


def test_the_sender_learns_that_nobody_listens() -> None:
    world, network, _ = make()
    assert network.send("a", "b", 1)
    network.detach("b")
    assert not network.send("a", "b", 2)
    world.run(1.0)
    assert network.counts.unattended == 2


def test_healing_ends_cuts_and_clogs() -> None:
    world, network, arrived = make()
    network.cut("a", "b")
    network.clog("b", "a", until=50.0)
    network.heal()
    network.send("a", "b", 1)
    network.send("b", "a", 2)
    world.run(1.0)
    assert sorted(number for _, number in arrived) == [1, 2]
