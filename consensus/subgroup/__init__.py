"""Which peers vote: the choice that the leader makes, as a function of what it knows.

The group has as many voters as the cluster's size asks for: 1 for one or two nodes, 3
from three, 5 from seven, 7 from twenty-five; `wanted` of the configuration overrides
that. Workers, which were admitted to carry work only, never get a seat and do not count.
More voters survive more failures and make every write wait for more disks.

`next_change` looks at the group as it is and at the candidates, and names the one change
to make now, or none. Called again after each change (and when beliefs change) it walks
the group to where it should be; it keeps no memory of its own, so a new leader goes on
where the old one stopped. The order of its rules:

1. A learner that died is dropped; nobody waits for it.
2. A learner that has caught up and is needed is promoted. While the group grows from an
   even number of voters would follow (1 to 3), promotion waits until enough learners have
   caught up to get past the even size, which survives no more failures than the odd one
   below it; it waits `pair_wait_s` at most.
3. A surplus voter goes: the dead before the leaving before the least suitable. The
   leader goes last, and hands leadership over before it does.
4. A voter that is leaving, became a worker, or is believed dead for `replace_after_s`, gets a substitute: first
   a learner, then (rule 2) its promotion, and only then (rule 3) the removal.
5. A seat that was never filled gets a learner.
6. A group that stands in fewer zones than it could, for a while, swaps one voter of
   a crowded zone for a peer of an empty one. Only when everybody is alive.

Suitable is who spreads the group over the most zones, then who has lived longest (in
powers of two of minutes, so that a few seconds decide nothing), then who carries least
load (in quarters), then the smallest node id: every leader would choose the same.

Nothing is removed that leaves fewer voters alive than a quorum of what remains: such a
change could never be committed, or would be the last one.

When a quorum of the voters is gone for good no rule helps, and a person starts the group anew from
a survivor; `objections` says what speaks against it.
"""

from consensus.subgroup.choice import Change, ChangeKind, SubgroupConfig, next_change, target_size
from consensus.subgroup.peers import Peer, Seat
from consensus.subgroup.recovery import Objection, Standing, objections

__all__ = [
    "Change",
    "ChangeKind",
    "Objection",
    "Peer",
    "Seat",
    "Standing",
    "SubgroupConfig",
    "next_change",
    "objections",
    "target_size",
]
