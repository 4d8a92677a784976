"""Verbs, without a terminal: one module a verb, shared by the command line and the shell.

A command is an async function that takes a `NodeClient` first, returns a value and
prints nothing. Failures that a person caused or can mend are raised from
`orca.errors`. What is worth showing while it runs is passed to a plain callable
(`Report`) as typed values of `orca.commands.progress`; the callable returns at once.

Changes have two halves. The first asks the node and returns what it committed: from
then on the change survives, whatever becomes of this process. The second only looks
on: `waiting.wait_for` feeds the pure machine of `rollout` with what the node's watch
stream says and ends with its verdict, so leaving it early (Ctrl-C, a lost
connection) never undoes anything.

To add a verb: a module here, its asyncclick command in `orca.cli`, a row in
`orca.cli.verbs`, and a test of each.
"""
