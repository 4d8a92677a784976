"""What the log means: commands, the state that they build, and its snapshots.

`apply(state, index, command)` is total and deterministic: whatever a command needs
that could differ between replicas (times, ids, hashes) was stamped by its proposer
and travels inside it. A refusal is an `Outcome` like any other and leaves the state as it
was. A command that comes twice under one `request_id` is answered from the first time.

Adding a command: add the struct to `commands.py` with a new tag, its case to
`apply.py`, a table test, and never rename or retype a field that was released.
"""
