"""All members of a simulated cluster on one network."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gossip.codec.packets import PacketCodec
from gossip.codec.sealing import Keyring
from gossip.machine import ORCA_TAG, GossipConfig
from gossip.messages import Address
from gossip.serf import MemberStatus
from simulations.members.member import Member, Surroundings
from simulations.members.streams import Streams
from simulations.network import Conditions, Network
from simulations.world import World

PORT: Final = 7946
ORCA_TAGS: Final[Mapping[str, str]] = {ORCA_TAG: "sim"}
LIVING: Final = frozenset({MemberStatus.ALIVE, MemberStatus.LEAVING})


def address_of(number: int) -> Address:
    """Of the member with that number; up to 65,000 of them."""
    return Address(f"10.7.{number >> 8}.{number & 255}", PORT)


class Group:
    """Members by name. `listeners` hear of everything that any of them publishes.

    `key`: gossip is sealed with it.
    """

    def __init__(
        self,
        world: World,
        config: GossipConfig,
        *,
        conditions: Conditions | None = None,
        key: bytes = b"",
        notices_stalls: bool = True,
        member_type: type[Member] = Member,
    ) -> None:
        self.world = world
        self.config = config
        self.network: Network[bytes] = Network(world, conditions)
        self.streams = Streams(world, self.network)
        self.members: dict[str, Member] = {}
        self.by_address: dict[Address, Member] = {}
        self.listeners: list[Callable[[Member, Any], None]] = []
        self._key = key
        self._member_type = member_type
        self._around = Surroundings(
            world=world,
            network=self.network,
            streams=self.streams,
            config=config,
            make_codec=self._make_codec,
            publish=self._publish,
            notices_stalls=notices_stalls,
        )

    def _make_codec(self, owner: str) -> PacketCodec:
        if not self._key:
            return PacketCodec()
        chance = self.world.chance(f"{owner}/nonces")
        return PacketCodec(Keyring([self._key], lambda: chance.randbytes(12)))

    def _publish(self, member: Member, news: Any) -> None:
        for listener in self.listeners:
            listener(member, news)

    def add(self, tags: Mapping[str, str] = ORCA_TAGS) -> Member:
        """A new node, which has not started."""
        number = len(self.members) + 1
        member = self._member_type(f"n{number}", address_of(number), tags, self._around)
        self.members[member.node] = member
        self.by_address[member.address] = member
        return member

    def up(self) -> list[Member]:
        """Those that run, also those that stand still or are about to leave."""
        return [member for member in self.members.values() if member.is_up]

    def staying(self) -> list[Member]:
        """Those that run and do not mean to go."""
        return [member for member in self.members.values() if member.is_up and not member.is_leaving]

    def form(self, count: int, tags: Mapping[str, str] = ORCA_TAGS) -> list[Member]:
        """So many new members that join the first of them, all at once."""
        fresh = [self.add(tags) for _ in range(count)]
        seeds = (next(iter(self.members.values())).address,)
        for member in fresh:
            member.start(seeds)
        return fresh

    def separate(self, side: Iterable[Member]) -> list[tuple[Address, Address]]:
        """Cut `side` off from the others, in both directions; what was cut, for `mend`."""
        inside = dict.fromkeys(member.address for member in side)
        outside = [address for address in self.by_address if address not in inside]
        ways = [(a, b) for a in inside for b in outside] + [(b, a) for a in inside for b in outside]
        self.cut(ways)
        return ways

    def cut(self, ways: Iterable[tuple[Address, Address]]) -> None:
        """Nothing gets there on these ways."""
        for sender, to in ways:
            self.network.cut(sender, to)

    def mend(self, ways: Iterable[tuple[Address, Address]]) -> None:
        """Undo `cut`."""
        for sender, to in ways:
            self.network.mend(sender, to)

    def run(self, seconds: float, is_over: Callable[[], bool] | None = None) -> None:
        """Let time go by."""
        self.world.run(self.world.now + seconds, is_over)

    def disagreement(self, *, with_facts: bool = True) -> str:
        """What keeps the members from agreeing on who lives, tags and facts; empty when nothing does."""
        staying = self.staying()
        alive = {member.node for member in staying}
        for one in staying:
            found = self._differs(one, staying, alive, with_facts=with_facts)
            if found:
                return found
        return ""

    def _differs(self, one: Member, staying: list[Member], alive: set[str], *, with_facts: bool) -> str:
        serf, facts = one.machine.serf, one.machine.facts
        believed = {member.node: member for member in serf.members() if member.status in LIVING}
        if believed.keys() != alive:
            missing, extra = sorted(alive - believed.keys()), sorted(believed.keys() - alive)
            return f"{one.node} believes that {missing} do not live, and that {extra} do"
        for other in staying:
            if believed[other.node].tags != other.tags:
                return f"{one.node} has tags {believed[other.node].tags} of {other.node}, which has {other.tags}"
            if with_facts and facts.facts_of(other.node) != other.machine.facts.facts_of(other.node):
                return f"{one.node} has other facts of {other.node} than that one"
        return ""
