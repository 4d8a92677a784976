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
- `lifeguard`, `profiles` and `scale` print tables; `epidemic` is the model that reaches 10,000 members.

What they printed last. `python -m simulations lifeguard --members 32`, 8 of them deaf again and again (FP: a living
member taken for dead; FP-: a healthy one, by a healthy one; detection of a crash in seconds). The paper says 50 to 100
times fewer false positives with all parts; of a member that is deaf for longer than any suspicion lasts nobody can
tell that it lives, so here that is so for FP-.

=================  =====  ======  =====  ======  =========  ====  ========  ====  =========  =======
configuration         FP   fewer    FP-   fewer  first p50   p99  last p50   p99  packets/s  bytes/s
=================  =====  ======  =====  ======  =========  ====  ========  ====  =========  =======
SWIM                3902    1.0x   1735    1.0x        8.5  11.9       9.1  12.0       12.3     3335
+ LHA-Probe         2146    1.8x    458    3.8x       10.5  12.5      10.9  12.8        9.2     1939
+ LHA-Suspicion     1978    2.0x    449    3.9x        9.2  11.5       9.5  11.7       13.8     3733
+ Buddy System      4019    1.0x   1787    1.0x        8.9  10.9       9.1  11.1       12.3     3268
Lifeguard (all)     1268    3.1x     16  108.4x       10.9  12.9      11.1  13.1       10.9     2237
=================  =====  ======  =====  ======  =========  ====  ========  ====  =========  =======

`python -m simulations profiles`, 32 members, a quarter of them stalling where it says so (FP and FP- in a member's
hour). `orca` takes less than half of `lan`'s time, and 1.24 times its bytes. While members are deaf for 16 of 17
seconds both profiles take them for dead, as they should; `orca` is the sooner, so its FP are 2 % more there.

=======  ======  =========  ====  ========  ====  ======  ======  =========  =======
profile  stalls  first p50   p99  last p50   p99    FP/h   FP-/h  packets/s  bytes/s
=======  ======  =========  ====  ========  ====  ======  ======  =========  =======
lan      none          7.7  12.4       8.1  12.7     0.0     0.0        3.9      539
local    none          6.2   7.9       6.4   8.0     0.0     0.0        3.8      696
orca     none          3.4   4.9       3.5   5.1     0.0     0.0        5.8      670
lan      short         8.7  13.3       8.9  13.6     0.0     0.0        8.0     1007
local    short         6.3   9.6       6.4   9.8     0.5     0.0       10.7     1528
orca     short         3.6   4.6       3.9   5.0     0.0     0.0       15.7     3305
lan      deaf          7.3  10.5       7.5  10.8  1679.1    90.0        9.4     2471
local    deaf          6.0   7.8       6.2   7.9  1960.3   267.7        9.1     2069
orca     deaf          3.4   4.1       3.6   4.4  1708.1    84.4        9.2     2747
=======  ======  =========  ====  ========  ====  ======  ======  =========  =======

`python -m simulations scale` (whole members up to 500 of `lan`, 128 of `orca`): seconds until the last member has a
change, beside the epidemic limit, and until the first and the last have found a crash. A change has to reach 10,000
within 3.36 s, twice the limit.

=======  =======  =======  =====  ==========  ====  =========  ========  ====
profile  members  model    limit  change p50   max  first p50  last p50   max
=======  =======  =======  =====  ==========  ====  =========  ========  ====
lan          128  whole     0.88        0.61  0.67        9.5      10.0  11.5
lan          128  sampled   0.88        0.64  0.92        9.9      10.4  12.3
lan          500  whole     1.13        0.83  0.98       11.9      12.5  14.0
lan          500  sampled   1.13        0.78  1.13       12.3      12.8  14.8
lan        10000  sampled   1.68        1.11  1.20       17.2      18.1  20.1
orca         128  whole     0.88        0.55  0.61        5.3       5.6   6.4
orca         128  sampled   0.88        0.59  0.97        4.4       4.8   5.8
orca       10000  sampled   1.68        0.97  1.50        7.6       8.4   9.4
=======  =======  =======  =====  ==========  ====  =========  ========  ====
"""
