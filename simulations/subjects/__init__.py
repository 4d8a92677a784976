"""The port that scenarios and checkers use, and engines other than ours behind it.

`port` is what an engine's node looks like to clients. `pysyncobj` puts PySyncObj 0.3 there, on virtual time. It is
here as a negative control and as a yardstick, and no node may import it: it acknowledges writes that are
on no disk, and forgets its term and its vote with the process. Our checkers have to find that.
"""
