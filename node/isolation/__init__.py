"""A node that does not hear from the group for long stops the copies that ask for that (`disconnect.stop_after`).

What counts is how old this node's knowledge of what was decided is: a leader's word, or that of somebody who follows
one. So it is cut off when it is alone, and also when there is no leader, because most voters are gone. Each copy is
stopped once; when the group is heard again it is told that the copy has stopped, and another one is placed.

A copy of such a service that does not run is not started before the group was heard once: the node may have been cut
off for long when it started. One that runs is kept for `stop_after` from then on. A daemon that is down stops nothing.
"""
