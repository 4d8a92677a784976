"""How the Serf layer behaves; the defaults are Serf's own."""

from typing import Final

import msgspec

from gossip.transmit_queue import PAYLOAD_BYTES_MAX

DAY_S: Final = 86_400.0
META_BYTES_MAX: Final = 512
"""memberlist's limit on encoded tags, checked by whoever sets them."""


class SerfConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, sizes in bytes.

    `retransmit_multiplier`: a broadcast is put into this times log10(n + 1) packets; take
    it from the SWIM profile, where 2 leaves tails of many seconds and 4 does not.
    `gossip_interval_s`, `query_timeout_multiplier`: a query waits by default
    interval x multiplier x log10(n + 1), the time an epidemic needs with much to spare.
    `broadcast_timeout_s`: how long a leave waits for its own transmissions.
    `leave_propagate_s`: how long a node that left stays up to answer the probes of those
    who have not heard it yet.
    `failed_keep_s`, `left_keep_s`: when a failed or a departed member is forgotten.
    `intent_keep_s`: how long an intent waits for the member it is about.
    `user_event_bytes_max`: name with payload, and encoded; Serf allows up to 9 KiB, but what
    does not fit a packet never leaves the queue.
    `query_bytes_max`, `response_bytes_max`: encoded.
    `member_coalesce_s`, `member_quiet_s`, `event_coalesce_s`, `event_quiet_s`: see
    `gossip.serf.coalesce`; 0 is off.
    `resolves_conflicts`: ask the cluster who owns our name when somebody else claims it.
    `persist_interval_s`: how long changes of peers and clocks gather before they are written.
    """

    retransmit_multiplier: int = 4
    gossip_interval_s: float = 0.2
    query_timeout_multiplier: int = 16
    broadcast_timeout_s: float = 5.0
    leave_propagate_s: float = 1.0
    reap_interval_s: float = 15.0
    failed_keep_s: float = DAY_S
    left_keep_s: float = DAY_S
    intent_keep_s: float = 300.0
    user_event_bytes_max: int = 512
    query_bytes_max: int = 1024
    response_bytes_max: int = 1024
    member_coalesce_s: float = 0.0
    member_quiet_s: float = 0.0
    event_coalesce_s: float = 0.0
    event_quiet_s: float = 0.0
    resolves_conflicts: bool = True
    persist_interval_s: float = 1.0

    def __post_init__(self) -> None:
        positive = {
            "retransmit_multiplier": self.retransmit_multiplier,
            "gossip_interval_s": self.gossip_interval_s,
            "query_timeout_multiplier": self.query_timeout_multiplier,
            "broadcast_timeout_s": self.broadcast_timeout_s,
            "reap_interval_s": self.reap_interval_s,
            "failed_keep_s": self.failed_keep_s,
            "left_keep_s": self.left_keep_s,
            "intent_keep_s": self.intent_keep_s,
            "persist_interval_s": self.persist_interval_s,
        }
        for name, number in positive.items():
            if not number > 0:
                raise ValueError(f"{name} is {number}; it has to be positive")
        for name in ("user_event_bytes_max", "query_bytes_max", "response_bytes_max"):
            if not 0 < getattr(self, name) <= PAYLOAD_BYTES_MAX:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it has to be 1 to {PAYLOAD_BYTES_MAX}, what fits a packet"
                )
        for name in ("leave_propagate_s", "member_coalesce_s", "member_quiet_s", "event_coalesce_s", "event_quiet_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be 0 or more")
