"""Makes this node look like its assignments.

A pure machine (`machine.py`) and a trio driver that performs what it orders. Per
copy, at most one action is in flight:

    prepare → launch (create, start, look up endpoints) → running
    running → exit → launch again, at once the first time, then with exponential back-off
    running → drain → stop → remove, once the decision is to stop it

Rules that keep a node safe:

- A launch that failed may have had its effect, and a word of an engine may be late: what
  is open is settled by a listing, and until then nothing is done to the copy.
- Nothing is launched or removed before the runtime has listed what exists, so a copy that
  outlived the agent is adopted and never doubled. After an engine was away it lists again.
- An instance nobody asked for is removed only when the assignments come from a state that
  was really read, never because there is none.
- A copy is stopped only after the proxies have let go of it (drain).
- A service is kept running whatever its exit code; a job ends with its first success.
- An engine that does not answer costs no try: the copy waits until it is back.

The machine listens and does not poll: exits, removals and engine restarts arrive as
events, and `deadline()` names the next back-off that ends.
"""
