"""How a group behaves, with the reasons."""

import msgspec

from consensus.raft.messages import MESSAGE_BYTES_MAX

_OVERHEAD_BYTES_MAX = 2**20


class RaftConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a group behaves.

    Times. A follower that hears nothing from a leader for `election_timeout_s` to twice that,
    drawn anew each time, campaigns. The leader says that it lives each `heartbeat_s`.
    The sum for "the leader is killed, the next write succeeds within 2 s": of the two
    followers that are left the first one's timer ends, in 95 of 100 cases, within 0.75 s +
    0.78 * 0.75 s = 1.33 s; a PreVote and a vote cost two round trips and one sync each, some 20 ms; a
    new entry another; the client tries again every 0.1 s. In one election of forty both
    followers' timers end within those 20 ms and neither wins; who was refused by a
    quorum tries again after 0.2 to 1 times the timeout. Smaller is worse: 0.75 s is what a busy
    disk needs for a sync now and then, and a leader with a stalled disk is silent meanwhile. Heartbeats
    at 0.2 s cost a leader of three 10 messages a second and their answers, and three may be lost.

    Flow. `append_bytes_max` and `append_entries_max` bound one append: 512 KiB are 4 ms at
    1 Gbit/s. Of those `inflight_appends_max` and `inflight_bytes_max` may be unanswered at once:
    8 MiB fill 64 ms of such a link, and bound what a slow follower can make this
    node's transport hold. `snapshot_chunk_bytes` go at a time, each answered.

    Memory. `payload_bytes_max`: larger proposals are rejected; 4 MiB is far above any spec and
    keeps one write below a second on a slow disk. `uncommitted_entries_max` and
    `uncommitted_bytes_max`: without a quorum a leader takes so much, then it says busy.
    `trailing_entries_max` and `trailing_bytes_max`: so much of what a snapshot covers stays in memory
    for followers that are only a little behind. `snapshot_bytes_max`: a larger snapshot is refused.
    `reads_max` and `forwards_max`: reads and forwarded requests under way at once. A forwarded request
    that is not answered for `forward_timeout_s` is given up.
    `apply_entries_max`: entries in one `Apply`, so that a driver can let others run between
    two of them while a long log is applied after a restart.
    """

    heartbeat_s: float = 0.2
    election_timeout_s: float = 0.75
    append_entries_max: int = 1024
    append_bytes_max: int = 512 * 2**10
    inflight_appends_max: int = 64
    inflight_bytes_max: int = 8 * 2**20
    snapshot_chunk_bytes: int = 256 * 2**10
    snapshot_bytes_max: int = 256 * 2**20
    payload_bytes_max: int = 4 * 2**20
    uncommitted_entries_max: int = 16_384
    uncommitted_bytes_max: int = 32 * 2**20
    trailing_entries_max: int = 1000
    trailing_bytes_max: int = 4 * 2**20
    reads_max: int = 4096
    forwards_max: int = 4096
    forward_timeout_s: float = 5.0
    apply_entries_max: int = 256

    def __post_init__(self) -> None:
        if any(getattr(self, field) <= 0 for field in self.__struct_fields__):
            raise ValueError(f"every number of a raft config is positive, these are not: {self}")
        if self.heartbeat_s * 2 > self.election_timeout_s:
            raise ValueError(
                f"two heartbeats fit into one election timeout, or followers campaign against a living leader: "
                f"{self.heartbeat_s} s and {self.election_timeout_s} s"
            )
        largest = max(self.payload_bytes_max, self.append_bytes_max, self.snapshot_chunk_bytes)
        if largest + _OVERHEAD_BYTES_MAX > MESSAGE_BYTES_MAX:
            raise ValueError(
                f"{largest} bytes at once do not fit into a message of {MESSAGE_BYTES_MAX} with what stands around them"
            )
