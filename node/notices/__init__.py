"""People are told of alerts: each change of state once, by one node, wherever the cluster is led from.

**Who tells.** The leader follows the histories of all nodes (`node.alert_feed`), works the alerts out as `orca alerts`
does whenever something has happened, and compares them with what each channel was told (`decide.py`, which is pure).
What a channel was told stands in the replicated state, so the next leader goes on where this one ended. A cluster
without channels does none of this.

**What is told.** That an alert fires, that it has become worse, that it is over; each of these once for each run of
the alert. What is silenced is not told, and of what somebody sees to only the end is. What fired and was over between
two looks is not told. An alert that is gone from the history without an end (its node was removed, its events are too
old) is told to be over after `GONE_S`, unless some node's history could not be had.

**Once, and when not.** A notice is claimed in the log, sent, and settled in the log
(`consensus.state.applying.notices`). No two nodes send at the same time, and a change of leaders repeats nothing that
was settled. Who sent something goes on to settle it, also when another node leads by then. What was sent by a node
that died before it could settle is sent again by the next one after a minute: at least once, and twice only then, or
when a receiver took a message and its answer was lost. Receivers that keep track see the same `X-Orca-Notice` header
on both (of webhooks: `json`, `xml` and `form` addresses).

**How.** By apprise, in a process of its own that lives for one message (`sending.py`): it needs 36 MB and a third of
a second to load, which would be more than the rest of the node and would hold up its loop. The address comes to it by
its stdin. Several notices that wait for one channel go into one message; after a message the next waits `INTERVAL_S`;
one that failed is tried again after 5 s, then twice as long each time, up to 5 minutes (`pace.py`, `words.py`; pure).
"""
