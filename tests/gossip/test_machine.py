"""Whole members on a network that loses nothing: what only the machine of all layers can get right."""

import random
from typing import Any

from gossip.codec import PacketCodec
from gossip.effects import OpenStream, ReplyStream, SendDatagram
from gossip.events import DatagramReceived, StreamFailed, StreamReceived, StreamReplied, Tick
from gossip.facts import FactLearned, FactWritten, SendBulk, SendFacts
from gossip.machine import BESIDE_TAG, ORCA_TAG, Gossip, config_of
from gossip.messages import Address
from gossip.serf import PersistPeers, TagsChanged
from gossip.swim import LOCAL, JoinRequested
from orca.model.units import Instant

STEP_S = 0.02


class Net:
    """Members by name, each at an address of its own; what they tell their node is in `news`."""

    def __init__(self) -> None:
        self.now = Instant(0.0)
        self.members: dict[str, Gossip] = {}
        self.news: dict[str, list[Any]] = {}
        self.sources: dict[str, Address] = {}
        """Where packets of a member seem to come from, when not from its address."""

    @staticmethod
    def address(node: str) -> Address:
        return Address(f"10.0.0.{ord(node[-1])}", 7946)

    def start(self, node: str, *, saved: PersistPeers | None = None, tags: dict[str, str] | None = None) -> Gossip:
        machine = Gossip(
            config_of(LOCAL),
            node,
            self.address(node),
            tags or {},
            PacketCodec(None),
            random.Random(node),
            self.now,
            life=int(self.now * 1000) + 1,
            saved=saved,
        )
        self.members[node] = machine
        self.news.setdefault(node, [])
        return machine

    def step(self, node: str, event: object) -> None:
        for effect in self.members[node].step(event, self.now):
            match effect:
                case SendDatagram(to=to, data=data):
                    there = self._at(to)
                    if there is not None:
                        source = self.sources.get(node, self.address(node))
                        self.step(there, DatagramReceived(source=source, data=data))
                case OpenStream():
                    self._exchange(node, effect)
                case _:
                    self.news[node].append(effect)

    def _at(self, address: Address) -> str | None:
        return next((node for node in self.members if self.address(node) == address), None)

    def _exchange(self, node: str, effect: OpenStream) -> None:
        there = self._at(effect.to)
        if there is None:
            self.step(node, StreamFailed(exchange=effect.exchange, reason="nobody is there"))
            return
        message = self.members[there].stream_input().feed(effect.data)
        assert message is not None
        received = StreamReceived(stream=1, source=self.address(node), message=message)
        for answer in self.members[there].step(received, self.now):
            if not isinstance(answer, ReplyStream):
                self.news[there].append(answer)
            elif effect.wants_reply:
                reply = self.members[node].stream_input().feed(answer.data)
                assert reply is not None
                self.step(node, StreamReplied(exchange=effect.exchange, message=reply))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = Instant(self.now + STEP_S)
            for node, machine in list(self.members.items()):
                if machine.deadline() <= self.now:
                    self.step(node, Tick())
                    machine.check_invariants()

    def join(self, node: str, other: str) -> None:
        self.step(node, JoinRequested(handle=1, addresses=(self.address(other),)))
        self.run(2)

    def saved(self, node: str) -> PersistPeers:
        return [one for one in self.news[node] if isinstance(one, PersistPeers)][-1]


def restarted(net: Net, saved: PersistPeers | None) -> Gossip:
    """Member `n-b`, killed, taken for dead by the others, and there again."""
    for node in ("n-a", "n-b", "n-c"):
        net.start(node)
    net.join("n-b", "n-a")
    net.join("n-c", "n-a")
    kept = net.saved("n-b") if saved is None else saved
    del net.members["n-b"]
    while any("failed" not in machine.swim.counts for machine in net.members.values()):
        assert net.now < 60, "a death is noticed"
        net.run(0.2)
    net.run(1)  # probes of the dead are over
    again = net.start("n-b", saved=kept)
    net.run(10)
    assert len(again.serf.members()) == 3, "it looks for its old peers by itself"
    return again


def test_a_member_that_comes_back_knows_its_incarnation_and_need_not_refute_its_death() -> None:
    again = restarted(Net(), None)
    assert again.swim.incarnation == 2
    assert again.swim.counts.get("refutes", 0) == 0


def test_a_member_that_forgot_its_incarnation_has_to_refute() -> None:
    """What the one above would do without what is kept: this test shows that it can fail."""
    forgotten = PersistPeers(peers=_peers_of_both(), ltime=5, event_ltime=1, query_ltime=1)
    again = restarted(Net(), forgotten)
    assert again.swim.counts.get("refutes", 0) >= 1


def _peers_of_both() -> Any:
    net = Net()
    for node in ("n-a", "n-b", "n-c"):
        net.start(node)
    net.join("n-b", "n-a")
    net.join("n-c", "n-a")
    return net.saved("n-b").peers


def test_each_new_incarnation_is_kept_at_once() -> None:
    net = Net()
    net.start("n-a")
    net.run(3)
    assert net.saved("n-a").incarnation == 1
    net.step("n-a", TagsChanged(tags={"tier": "db"}))
    assert net.saved("n-a").incarnation == net.members["n-a"].swim.incarnation == 2


def test_facts_for_a_node_beside_an_agent_are_left_to_the_node_and_none_go_to_the_agent() -> None:
    net = Net()
    net.start("n-a", tags={ORCA_TAG: "1"})
    net.start("agent-z", tags={ORCA_TAG: "1", BESIDE_TAG: "n-z"})
    net.join("n-a", "agent-z")
    net.step("n-a", FactWritten(key="node", value=b"here"))
    net.run(3)
    assert {frame.node for frame in frames_from(net)} == {"n-z"}
    assert not [one for one in net.news["agent-z"] if isinstance(one, FactLearned) and one.writer == "n-a"]
    net.step("agent-z", TagsChanged(tags={}))
    net.run(3)
    count = len(frames_from(net))
    net.run(5)
    assert len(frames_from(net)) == count, "it is a plain agent now"


def frames_from(net: Net) -> list[SendFacts | SendBulk]:
    """What member `n-a` left to its node."""
    return [one for one in net.news["n-a"] if isinstance(one, SendFacts | SendBulk)]


def test_a_host_that_answers_from_another_of_its_addresses_is_heard_and_measured() -> None:
    """A member that listens on all addresses and advertises one: the kernel chooses what its packets come from."""
    net = Net()
    net.start("n-a")
    net.start("n-b")
    net.sources["n-b"] = Address("10.9.9.9", 7946)
    net.join("n-b", "n-a")
    net.run(5)
    seen = net.members["n-a"].swim.member("n-b")
    assert seen is not None
    assert seen.rtt_s is not None
    assert seen.heard_at is not None
    assert net.now - seen.heard_at < 2
    assert net.members["n-a"].serf.coordinate("n-b") is not None


def wakes(net: Net, seconds: float) -> int:
    """How often the only member of `net` wants to be woken in that time, when each wish is granted at once."""
    (machine,) = net.members.values()
    end, count = net.now + seconds, 0
    while (due := machine.deadline()) <= end:
        net.now = max(net.now, due)
        net.step(machine.swim.node, Tick())
        machine.check_invariants()
        count += 1
    net.now = Instant(end)
    return count


def test_a_member_that_is_alone_lets_its_node_sleep() -> None:
    net = Net()
    net.start("n-a")
    wakes(net, 5)
    assert wakes(net, 60) <= 20, "no turns of probing, and nothing is saved that has not changed"


def test_a_member_that_was_alone_probes_who_comes_within_one_interval() -> None:
    net = Net()
    alone = net.start("n-a")
    wakes(net, 60)
    assert "probes" not in alone.swim.counts
    net.start("n-b")
    net.step("n-b", JoinRequested(handle=1, addresses=(net.address("n-a"),)))
    net.run(LOCAL.probe_interval_s + STEP_S)
    assert alone.swim.counts["probes"] >= 1
