"""From intent and beliefs to a plan: a pure function, run by the leader.

Four steps, each its own module. *reconcile* compares what a service wants with the
copies that exist: which are missing, surplus, outdated, lost (`whereabouts`; for one that runs on every node,
`everywhere`). *feasible* says which nodes may take a copy, and for every refusal the reason; `volumes` binds a copy to
its data. *rank* orders them. *plan* puts it together, together with the state of each rollout. `reasons` says all of
that in words to whoever asks, on any node.

What is reserved on each node (`fleet`), and which services had nothing to do, is kept from plan to plan, so a plan
costs what changed; from 256 nodes on the same numbers stand in NumPy columns (`columns`), and choosing costs about
the same a copy however many nodes there are. A planner that remembers and one that does not make the same plan.
`python -m simulations.bench schedule` places a million copies of a thousand services on ten thousand nodes, through
three real voters: 45 s on 2 cores, 0.9 GB a voter, and 13 ms to look ahead for one service more.

A rollout replaces copies by these rules, and they are why a failed deploy costs
nothing that works: a new copy counts once it has been ready for `min_healthy_time_s`;
at most `max_surge` copies exist above and `max_unavailable` below the wanted number;
an old copy that ever became ready goes only when a new one counts in its place; once
the rollout has failed nothing moves any more until somebody deploys, rolls back or
scales. Where a new copy cannot run beside the old one (it publishes a host port or
writes to a volume) the old one stops first.

A revision whose deploy section says so stands beside the one before it until it is promoted (`stages`): a canary with
a few copies, or a whole set that takes no request (blue-green). Until then the revision before, its base, is what
serves: its copies are kept whole, made again where they are lost, and none of them goes for a new one, whatever
becomes of it. The proxies share requests out by the weights of the two. One that loses its health while it waits is
not promoted; it has as long as a new copy has to be well again, and fails after that. A rollout that is paused starts
and stops nothing of its own; what is lost is made again. One that fails may be set to go back to the last complete
revision by itself; that is part of `apply`, so every replica does it at the same place of the log, and only once in a
row.

A plan is based on one revision of the state and is void on any other.
"""
