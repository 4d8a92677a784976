"""The interactive shell: every command of the command line without its first word, and what a prompt adds to them.

*pipeline* reads a line: words, and `|` before filters. *filters* are what stands behind a `|`. *known* is what the
cluster looks like, for completion and the toolbar; the *prober*, a process of its own, asks for it every other second
and says what it got, so nothing that is drawn while a person types ever waits for a node. *completer* and *toolbar*
draw from that alone. *running* runs a command in a child process: it starts with all that the shell has imported, has
Ctrl-C for itself, and may end as it likes. *session* is the loop around them.

The node that is talked to may die. The prober notices, and says where the API of the others is; the shell moves to the
first of them that answers and belongs to the same cluster, and says so in one line. A line that was being typed stays.
"""
