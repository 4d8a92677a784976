"""How a member probes and gossips: memberlist's profiles, and ours."""

from typing import Final

import msgspec

from gossip.codec.packets import PACKET_BYTES_MAX


class SwimConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds; the defaults are memberlist's for a local network.

    `probe_interval_s`, `probe_timeout_s`: one member is probed each interval; after the
    timeout others are asked. The timeout should be above the 99th percentile of round trips.
    `indirect_checks`: how many are asked.
    `suspicion_multiplier`: the least wait of a suspicion is this x max(1, log10 n) x interval.
    `suspicion_max_multiplier`: without confirmations it waits so many times longer.
    `confirmations_max`: confirmations that bring the wait down to the least; 0 in groups too
    small to give them.
    `awareness_max`: a slow member stretches its probes up to so many times.
    `has_buddy_system`: whoever pings a suspect tells it of the suspicion first.
    `gossip_interval_s`, `gossip_nodes`: so many random members get news each interval.
    `gossip_to_dead_s`: for how long the dead get news too, and are remembered.
    `retransmit_multiplier`: a claim is sent this x ceil(log10(n + 1)) times by each member.
    `push_pull_interval_s`: for up to 32 members; it grows with the logarithm above.
    `stream_timeout_s`: for a whole exchange.
    `leave_timeout_s`: how long a leave waits until it has been said often enough.
    `dead_reclaim_s`: when a dead member's name may be taken at another address; 0 is never.
    `extra_push_pulls`: with random members, after a join.
    `coordinate_every`: every so many acks carry the payload of the layer above.
    `members_max`: claims about more are dropped.
    `packet_bytes_max`: of plain bytes in a packet.

    SWIM without a part of Lifeguard: `awareness_max` 1 (LHA-Probe); `suspicion_max_multiplier` 1 with
    `confirmations_max` 0 (LHA-Suspicion); `has_buddy_system` False.
    """

    probe_interval_s: float = 1.0
    probe_timeout_s: float = 0.5
    indirect_checks: int = 3
    suspicion_multiplier: float = 4.0
    suspicion_max_multiplier: float = 6.0
    confirmations_max: int = 2
    awareness_max: int = 8
    has_buddy_system: bool = True
    gossip_interval_s: float = 0.2
    gossip_nodes: int = 3
    gossip_to_dead_s: float = 30.0
    retransmit_multiplier: int = 4
    push_pull_interval_s: float = 30.0
    stream_timeout_s: float = 10.0
    leave_timeout_s: float = 5.0
    dead_reclaim_s: float = 0.0
    extra_push_pulls: int = 2
    coordinate_every: int = 1
    members_max: int = 16_384
    packet_bytes_max: int = PACKET_BYTES_MAX

    def __post_init__(self) -> None:
        for name in (
            "probe_interval_s",
            "probe_timeout_s",
            "suspicion_multiplier",
            "gossip_interval_s",
            "gossip_to_dead_s",
            "push_pull_interval_s",
            "stream_timeout_s",
            "leave_timeout_s",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be positive")
        if not self.probe_timeout_s <= self.probe_interval_s:
            raise ValueError(
                f"probe_timeout_s is {self.probe_timeout_s} and probe_interval_s {self.probe_interval_s}; "
                "a probe has to end before the next one"
            )
        for name in ("suspicion_max_multiplier", "awareness_max", "retransmit_multiplier", "coordinate_every"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be 1 or more")
        if not 512 <= self.packet_bytes_max <= 65_000:
            raise ValueError(f"packet_bytes_max is {self.packet_bytes_max}; it has to be 512 to 65000")


LAN: Final = SwimConfig()
WAN: Final = SwimConfig(
    probe_interval_s=5.0,
    probe_timeout_s=3.0,
    suspicion_multiplier=6.0,
    confirmations_max=4,
    gossip_interval_s=0.5,
    gossip_nodes=4,
    gossip_to_dead_s=60.0,
    push_pull_interval_s=60.0,
    stream_timeout_s=30.0,
)
LOCAL: Final = SwimConfig(
    probe_timeout_s=0.2,
    indirect_checks=1,
    suspicion_multiplier=3.0,
    confirmations_max=1,
    gossip_interval_s=0.1,
    gossip_to_dead_s=15.0,
    push_pull_interval_s=15.0,
    stream_timeout_s=1.0,
)
"""memberlist's, but for `retransmit_multiplier`: it has 2, and with 2 some news takes half a minute."""

ORCA: Final = SwimConfig(
    probe_interval_s=0.5,
    probe_timeout_s=0.25,
    suspicion_multiplier=3.5,
    suspicion_max_multiplier=16.0,
    confirmations_max=3,
    awareness_max=32,
    push_pull_interval_s=20.0,
    stream_timeout_s=5.0,
    coordinate_every=4,
)
"""Finds a crash in half of `LAN`'s time with no more false positives; `python -m simulations profiles` measures it.

- `probe_interval_s`, `probe_timeout_s`: half of LAN's; a quarter of a second is still far above a round trip.
- `suspicion_multiplier`: the least wait is 7/16 of LAN's. With it and the shorter probe half of LAN's time is kept with
  some to spare; with 3 members that stand still for two seconds in three are buried, with 4 it gets close to the half.
- `confirmations_max`: one more than LAN's. Members that are deaf together accuse the same healthy ones, and two or
  three of them must not be enough; with four, groups of five could confirm nothing.
- `suspicion_max_multiplier`: alone, an accuser waits 28 s x log10 n, a little longer than LAN's 24: it probes twice as
  often, so one that is slow accuses twice as many.
- `awareness_max`: for the same reason a member that hears nothing probes every 16 s in the end, LAN's every 8.
- `push_pull_interval_s`, `stream_timeout_s`: what packets missed is made up for sooner, and a peer that is gone is
  given up sooner; both cost little.
- `coordinate_every`: coordinates in a quarter of the acks pay for most of the additional probes.
"""

PROFILES: Final = {"lan": LAN, "wan": WAN, "local": LOCAL, "orca": ORCA}
