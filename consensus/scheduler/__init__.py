"""From intent and beliefs to a plan: a pure function, run by the leader.

Four steps, each its own module. *reconcile* compares what a service wants with the
copies that exist: which are missing, surplus, outdated, lost. *feasible* says which
nodes may take a copy, and for every refusal the reason. *rank* orders them.
*plan* puts it together, together with the state of each rollout.

A rollout replaces copies by these rules, and they are why a failed deploy costs
nothing that works: a new copy counts once it has been ready for `min_healthy_time_s`;
at most `max_surge` copies exist above and `max_unavailable` below the wanted number;
an old copy that ever became ready goes only when a new one counts in its place; once
the rollout has failed nothing moves any more until somebody deploys, rolls back or
scales. Where a new copy cannot run beside the old one (it publishes a host port or
writes to a volume) the old one stops first.

A plan is based on one revision of the state and is void on any other.
"""
