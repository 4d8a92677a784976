"""The node's HTTP API: `/v1` by TCP and on a unix socket in the data directory.

`routes.py` is the whole surface, one `Route` a line. Routing, the checks of query and
body, the OpenAPI document and the page at `/` are all made from that table, so that
none of them can say something else than the others. A handler takes a checked `Call`,
asks the `Control` (the node) and gives a struct of `orca.model.view`, a stream or an
upgrade. It holds no state and decides nothing.

*Errors*: whatever is raised goes through `failure.py` alone: an `OrcaError` answers with
its own status and `{"error": …}`, anything else is logged, answered with 500
`internal`, and the node lives on. In a stream whose head is out, the error is the last
line (`{"error": …}`) or the last event (`error`).

*Input* is refused, never guessed: unknown or doubled query parameters, unknown keys of a
request body, wrong content types, bodies above their limit (JSON 8 MiB, blobs 256 MiB,
builds 4 GiB; the last two are streamed), JSON that is cut off, nested too deeply or not
UTF-8.

*Streams* (`/v1/watch`, `/v1/events`, `/v1/logs`, builds, exec) end when the client leaves:
the log or exec context below is left at once. Server-sent events say something at
least each 15 s.

*Who may call*: `authentication.py` says who a connection's requests come from: a bearer token
(`orca/model/api_token.py`; the state has its hash), the uid behind the unix socket (the node's owner and root
are admins), loopback where the node trusts it, or another node for somebody that it names. A token goes before all
else. `guard.py` keeps web pages of others away from who is trusted for where he is. Failures are
limited by address (`throttle.py`), and never stand in the way of a right token.

*Who may do what*: `permissions.py` has a rule for each route, and what has none is refused. The
dispatcher checks role, and the projects that path and query name, before it reads a body; handlers check what
only they can see (the specs of a deploy, the project of a copy) and cut lists down. Streams are ended within
a second or two of the right to them (`ending.py`).

*Audit*: what goes through the log is audited there; the rest is told to it by `audit.py`: deeds that no
command tells of (exec, builds, gossip), and refusals of changes, of which a flood costs little.

*Any node*: what the cluster decided every node has. Logs, figures, commands and events of another node are asked
of that node over the mesh (`far.py`, `everywhere.py`, `events.py`), for whom `passport.py` names; it
judges him again by its own copy of the state, and passes nothing on. A node that does not answer is part of the
answer, with the age of what is known of it, and every wait has an end.
"""
