"""The node's HTTP API: `/v1` on loopback TCP and on a unix socket in the data directory.

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

*Who may call*: whoever reaches the listener. The unix socket has mode 0600 and names its
caller by uid; a loopback TCP port is open to every user of this computer, and `guard.py`
keeps web pages out. Tokens and TLS for other addresses belong to the trust layer.
"""
