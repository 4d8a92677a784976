"""What is wrong, worked out of the histories of all nodes when somebody asks.

An alert is a function of events, of what people said, and of now, so nothing else is kept: every node that sees the
same history names the same alerts, a restart loses none, two halves of a cluster that find together again have no
duplicates to settle, and a node whose alerts nobody asks for spends nothing on them. The price is the length of the
history: what happened before the newest thousand events is not looked at, and the answer says so.

A rule (`rules.py`) names the kinds of event that raise it and those that clear it, how many within which window it
takes, how long they have to hold, and after how long a calm it is over by itself. It counts for each copy, and
groups by service or by member, so that forty copies or forty observers make one alert. A copy that is killed for want
of memory is counted by that rule and not as a crash loop too.

Sentences (`wording.py`, `causes.py`) are templates over counts, names and exit codes. Words that come from elsewhere,
the messages of runtimes and engines, are only ever quoted, and pass `evidence.py` first.

A node that failed stands for everything that happened on it and nowhere else: forty alerts about the copies of a dead
node say nothing that the one about the node does not. What stands in for others names them.

What people say about alerts is intent (`consensus.state.applying.alerts`): that somebody sees to one, that one is
over, that nobody need be told of some until a time. `handling.py` puts it into the answer. What was said to be over
takes part in the working out: events up to then do not count any more, those after it count anew.

A runtime is missed only where the history says that it was there: a node without Docker is a node like others.

Figures (memory, disks, errors and latency of services, clocks, certificates) come as events, too: each node tells
when one of its own has gone too far and when that is over (`node.figures`), with hold and hysteresis where they are
measured.

Left out: whether anything can be decided at all is judged by `orca doctor` and `orca quorum`.
"""
