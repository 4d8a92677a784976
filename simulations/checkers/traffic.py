"""Gossip is quiet when there is no news, and never a storm."""

from typing import Final

from gossip.machine import GossipConfig
from simulations.checkers.group import GroupChecker
from simulations.members.group import Group

PROBE_BYTES: Final = 220
"""Of a ping and an ack with a coordinate, sealed, with room for long names."""
SUMMARY_BYTES: Final = 160
ANSWERS: Final = 1.5
"""Packets and answers to them, a little above what is usual."""


def quiet_packets_per_s(config: GossipConfig) -> float:
    """Of one member among members without news: a ping and an ack each turn, a summary of facts."""
    return ANSWERS * (2 / config.swim.probe_interval_s + 1 / config.facts.summary_interval_s)


def quiet_bytes_per_s(config: GossipConfig) -> float:
    """The same in bytes."""
    return ANSWERS * (PROBE_BYTES / config.swim.probe_interval_s + SUMMARY_BYTES / config.facts.summary_interval_s)


def storm_packets_per_s(config: GossipConfig) -> float:
    """What no member may send over ten seconds, whatever happens: gossip to all it may, probes of every kind."""
    swim = config.swim
    gossip = swim.gossip_nodes / swim.gossip_interval_s
    probes = (4 + 4 * swim.indirect_checks) / swim.probe_interval_s
    facts = 6 * config.facts.push_fanout / config.facts.push_interval_s
    return gossip + probes + facts


class Traffic(GroupChecker):
    """Looks for storms all the time, and at silence when asked."""

    name = "traffic"
    _WINDOW_S = 10

    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self.quiet_packets_per_s = 0.0
        self.quiet_bytes_per_s = 0.0
        self._seconds = 0
        self._packets: dict[str, int] = {}

    def look(self) -> None:
        """Count packets, every ten seconds."""
        self._seconds += 1
        if self._seconds % self._WINDOW_S:
            return
        most = storm_packets_per_s(self.group.config)
        for member in self.group.members.values():
            sent = member.counts.packets - self._packets.get(member.node, 0)
            self._packets[member.node] = member.counts.packets
            if sent / self._WINDOW_S > most:
                self.fail(f"{member.node} sent {sent / self._WINDOW_S:.1f} packets/s for 10 s; {most:.1f} is the most")

    def demand_quiet(self, seconds: float) -> None:
        """Let time go by in which nothing happens, and nothing has for a while."""
        up = self.group.up()
        packets, size = self._sums()
        self.group.run(seconds)
        more_packets, more_size = self._sums()
        member_s = len(up) * seconds
        self.quiet_packets_per_s = (more_packets - packets) / member_s
        self.quiet_bytes_per_s = (more_size - size) / member_s
        config = self.group.config
        if self.quiet_packets_per_s > quiet_packets_per_s(config):
            self.fail(
                f"{self.quiet_packets_per_s:.1f} packets/s of each member without news;"
                f" {quiet_packets_per_s(config):.1f} is the most"
            )
        if self.quiet_bytes_per_s > quiet_bytes_per_s(config):
            self.fail(
                f"{self.quiet_bytes_per_s:.0f} bytes/s of each member without news;"
                f" {quiet_bytes_per_s(config):.0f} is the most"
            )

    def _sums(self) -> tuple[int, int]:
        counts = [member.counts for member in self.group.members.values()]
        return sum(one.packets for one in counts), sum(one.packet_bytes for one in counts)
