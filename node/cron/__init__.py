"""Services that run by the calendar (`schedule` in their spec).

Such a service has no copies of its own. For each moment that its schedule names, the leader decides a *run*: a job
called `<service>-<moment in UTC>`, with the workload of the service (`decide`, which is pure; `keeper` proposes it).

*At most once.* The moment is the identity of the run: its name and its request id are made of it, so the same run
decided twice, by two leaders or after a lost answer, is one command that the log carries out once. The newest run that
exists says up to which moment all is decided; the last `RUNS_KEPT` that are over stay, so there is always one. A run is
not started a second time by the cluster, unless the spec asks for that (`restart = "on-failure"`).

*Missed.* A moment is met within `GRACE_MS`. If nobody could decide then (no quorum, all nodes off), it is skipped,
or with `missed = "run"` the last of those that were missed is run once, late. Moments before the service was deployed,
or changed, are nobody's. The runs of a service that is removed go with it.

*Overlap.* While an earlier run is not over the next is skipped (`forbid`), started all the same (`allow`), or started
after the earlier one was told to stop (`replace`). `orca stop` suspends the schedule; `orca start` takes it up again.
"""
