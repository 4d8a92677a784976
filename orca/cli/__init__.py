"""The command line.

`verbs` is the table of commands. `main` answers `orca --help` and `--version` from it
alone, because a person asks for them most and Python's imports are what takes time.
Everything else goes through `program`: the parser loads the one module that the verb
needs, and parsing waits for nothing, so a usage error or a verb's help never starts
an event loop. Only a verb that runs imports trio.

A verb's function gets a `Session` (the console and a way to a node) and calls
`orca.commands` for what it does; `render`, `progress` and `diff` turn the values into
lines. stdout has results, stderr everything else, and the exit code comes from the
error tree (`orca.errors`).

`daemon` is the only door from here into `node`.
"""
