"""Singletons: at most one copy of such a service runs at any time, in the whole cluster, whatever is cut from what.

Each copy has a *lease* of the replicated state (`consensus.state.applying.leases`), named after its service; the copy's
id is the holder. The number of the lease, its *fence*, is larger than that of any lease before. A copy never gets a
second one: when its lease is lost it ends, and the scheduler makes another copy. So the number that a copy was started
with is the number that it has.

Three clocks work together, each measured on one computer alone:

- The **leader** declares a lease over `lease * 1.05` after its last renewal, by its own clock, and gives it to nobody
  else before (`consensus.duties`).
- The **keeper** on the node (`keeper.py`, pure) counts from the moment *before* it asked, and by a clock that goes on
  while the computer sleeps. Of `lease * 0.95` it keeps back `STOP_MARGIN_S` and the time that the copy gets to stop in
  (its stop timeout, a third of the lease at most): then the reconciler stops the copy, without a drain.
- The **guard** (`guard.py`) is a process of its own, which outlives the daemon. It reads the end of each lease from a
  file in memory that every renewal replaces, and kills the container `KILL_MARGIN_S` before: whether the daemon was
  killed, hangs, or waits for an engine that does. It signals the container's first process directly where it may (as
  root), and through the engine elsewhere. Wasm modules end with the daemon and need none.

A copy is started only when its lease is granted, its deadline is written, and a guard lives. A daemon that comes back
finds the deadline and keeps the container running until then; if it gets the same lease once more, the container is
adopted. One that was made under another number, or without one, is made anew. A renewal is tried every fifth of a
lease. A copy that has ended here gives its lease back, so that its successor need not wait.

What holds when:

- A daemon that is killed, stopped or hung: the guard ends the container in time.
- An engine that hangs: the guard still does, as root on the engine's computer; else nobody can before it answers.
- A guard that is killed too, together with the daemon (by hand, or by a service manager that ends all processes of a
  unit): the container outlives its lease until the daemon is back. Under systemd, `KillMode=process` spares the guard.
- A computer that stops all processes, guard and workload, and lets them go on later: the workload may act for a moment
  before it is killed.

Against the last two the fence is the remedy: whoever keeps what the workload writes refuses a number that is lower than
one it has seen.
"""
