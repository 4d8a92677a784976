"""Figures of a node over time, and what is told when one of them goes too far.

**What is kept.** Each second the node notes figures of its own (processor, memory, disk, store), of each copy that it
runs, and of each service that its proxy answered for. A *series* is one figure of one subject. Every second of the
last ten minutes, and mean and peak of every minute of the last seven days, are in the store: one record a minute for
the seconds of all series, one for their means (`minutes.py`, pure; `store.py`). A node with very many series keeps
fewer days: all of it never takes more than `SERIES_BYTES_MAX`, and nothing while the store is nearly full. A crash
costs the minute that was being noted. Runtimes are asked about each copy every `ASK_S`, and at most `ASKS_A_S` times
a second: between two answers the figures of a copy are those of the last, and its processor time is the mean since
the one before.

**What goes too far.** `thresholds.py` (pure) has a rule for each such figure: from which value on and for how long it
is told, from which value on and for how long it is over. What is told is an event (`figure.exceeded`, then
`figure.settled`), so alerts are worked out of it as of all events, and another node's as well as this one's. What is
open outlives a restart. A figure that nobody could measure for `GONE_S` is settled.

Clocks: each minute this node compares its clock with that of one other; it is off when the middle of what the last
peers said is. Of two nodes that differ nobody can tell which is right, and both say so.
"""
