"""The real cores in one process, on one virtual clock, from one seed.

Theory of operation.

- `world` holds the only clock, the only chance and the only queue. A run is a function of its
  seed: same seed, same trace, whatever PYTHONHASHSEED says.
- `network`, `disk` and `process` are what a node stands on, made to fail: messages are lost, doubled, reordered,
  cut off and clogged; writes are torn, lost before they are synced, and refused; a process dies between any two
  effects, stands still for longer than an election, and has a clock that runs too fast.
- `faults` draws the mood of each run: which faults exist at all, then how often (swarm testing: Groce et al.,
  ISSTA 2012). A run with everything switched on finds less than many runs with something different switched off each.
- `members` are whole members of a gossip cluster, `nodes` whole nodes that run services; each says how it is made.
- `workload` are clients with retries; `keeper` changes the group under them; what both did is a history.
- `checkers` judge: one property a file. Some watch every step, some read the history at the end.
- `scenarios` put it together: chaos, then heal, then demand that everything makes progress.
- `subjects` puts another engine behind the same port, as a negative control: a checker that never fails proves nothing.
- `mutations` plants bugs in the real machine, and tells which checker finds each, and after how many seeds.

A failure prints its seed and the command that replays it. Nothing here reads a clock, a
file or the environment, except `__main__` and `bench`.
"""
