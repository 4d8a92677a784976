"""What the log means: commands, the state that they build, and its snapshots.

`apply(state, index, command)` is total and deterministic: whatever a command needs
that could differ between replicas (times, ids, hashes) was stamped by its proposer
and travels inside it. A refusal is an `Outcome` like any other and leaves the state as it
was. A command that comes twice under one `request_id` is answered from the first time, as
long as its answer is among the last `REQUESTS_KEPT`.

Where things are: `commands` (what can be asked, and the checklist for one more), `records` and
`cluster` (what is kept), `applying` (what each command does, a module a noun), `schema` (which
release understands what, and how the cluster goes on to a newer one), `snapshot` (bytes).

What is in the state and what is not:

- Secrets come sealed. Their data keys come wrapped for single nodes. Of tokens and webhooks there is a
  SHA-256. So the log, the snapshots and every node's copy of them may be read by anybody who
  may read the names in them.
- The nodes' table is the list of who is trusted: a certificate that it does not name is not good,
  whoever signed it. A removed node stays in `revoked` for ever; one that left may come back.
- Leases have a clock of their own (`applying.leases`), and numbers that only grow.
- The audit has at least the last `AUDIT_KEPT` changes that somebody asked for, refused ones too.
- Two revisions: `revision` moves with everything that people or nodes act on, `plan_revision`
  only with what plans are made from. A token does not make a plan void.

Everything that can fill up has a limit. All records are frozen, so `ClusterState.freeze` is one
moment's state for another thread, without a fork and without a copy of what is in it.
"""
