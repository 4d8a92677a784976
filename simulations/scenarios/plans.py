"""What a run is made of: chaos of all kinds, and moods in which one part of the protocol works hardest."""

from typing import Final

import msgspec

from consensus.raft import RaftConfig
from simulations.faults import Mood, calm
from simulations.world import Chance


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of; None is drawn from the seed."""

    name: str = "raft"
    voters: int | None = None
    learners: int | None = None
    clients: int | None = None
    chaos_s: float = 30.0
    mood: Mood | None = None
    config: RaftConfig | None = None


def draw_config(chance: Chance) -> RaftConfig:
    """Limits so small that they are met: windows, pieces, what stays in memory after a compaction."""
    return RaftConfig(
        append_entries_max=chance.between(1, 16),
        append_bytes_max=chance.between(64, 4096),
        inflight_appends_max=chance.between(1, 8),
        inflight_bytes_max=chance.between(256, 8192),
        snapshot_chunk_bytes=chance.between(64, 1024),
        trailing_entries_max=chance.between(1, 20),
        uncommitted_entries_max=chance.between(20, 200),
        reads_max=chance.between(4, 64),
        forwards_max=chance.between(4, 64),
        forward_timeout_s=chance.uniform(0.5, 3),
        apply_entries_max=chance.between(1, 8),
    )


CHAOS: Final = Plan()
"""Everything is drawn: the size of the group, the faults, the limits."""

_HASTY: Final = RaftConfig(
    append_entries_max=1, inflight_appends_max=1, snapshot_chunk_bytes=256, heartbeat_s=0.05, election_timeout_s=0.2
)

ELECTIONS: Final = Plan(
    name="elections",
    voters=5,
    learners=0,
    clients=5,
    chaos_s=90.0,
    mood=calm(slow_network=0.05, crash=0.6, partition=0.8, crash_between=0.004),
    config=_HASTY,
)
"""A leader for a second or less, and one entry a message: entries of many terms that reached few nodes."""

CHANGES: Final = Plan(
    name="changes",
    learners=0,
    clients=3,
    mood=calm(slow_network=0.03, change=0.15, partition=0.6, crash=2, loss=0.1),
    config=_HASTY,
)
"""The group changes all the time while it is cut in two."""

READS: Final = Plan(
    name="reads",
    learners=1,
    clients=6,
    mood=calm(partition=1.5, one_way=1.5, pause=1.5, transfer=3),
)
"""Leaders that are deposed and do not know it, while others write."""

PLANS: Final = (CHAOS, ELECTIONS, CHANGES, READS)
