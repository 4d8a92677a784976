"""Members of a gossip cluster in one process: the real machines, `gossip.machine.Gossip`, bytes and all.

- `member` is one node over all its lives. It keeps the rules of the real driver: the effects of a step are
  performed in order and before the next step, a datagram that nobody reads is lost, a timer that wakes late tells
  the machine so. It crashes, comes back with the peers that it had kept, leaves, stands still (what comes meanwhile
  waits in its socket, up to the size of a real one), and can be slow: everything waits for its turn, as in a process
  that gets too little CPU.
- `streams` are connections: they take round trips, wait for lost segments instead of losing them, are refused
  where nobody listens and run into their deadline where nobody answers.
- `group` is all of them on one network.
- `knobs` are the faults that a mood is drawn from, `nemesis` brings them about.
- `experiment` keeps a group of many under watch: who falsely buried whom, how soon a crash is known, what it costs.
"""
