"""HTTP/1.1 over trio streams, both roles: h11 reads and writes, this package sets limits and deadlines.

One connection is one task. The server (`serve_http`) reads a head, calls one handler and
writes what it gives: a `Response`, a `StreamResponse` or an `Upgrade`. Every wait has a
deadline (`HttpLimits`): an idle connection is closed silently, a head or a body that
comes too slowly is answered with 408, a reader that takes nothing is dropped. Every
amount has a limit: heads (431) and bodies (413, asked for by who reads the body).

While a handler thinks, its client may leave and nothing is cancelled: a change that was
begun is finished. While a `StreamResponse` runs, the connection is watched for the
client's end of stream, and the stream's context is left as soon as that comes, also
when the stream has nothing to say. A client that only closes its sending half therefore
gets no streams. The watch begins when the request's body has been read: whoever answers
with a stream reads the body, before or meanwhile. Bytes of pipelined requests that come
during the watch are kept, up to 64 KiB.

A failed request never reaches the task that accepts: whatever a handler raises becomes an
answer through `on_error`, and what the client breaks ends its own connection only.

The client (`HttpClient`) keeps a few idle connections and tells apart what its caller
must know before a retry: OSError is raised when no connection came about (nothing was
sent), `trio.BrokenResourceError` when it was lost after the request was begun,
`trio.TooSlowError` after a deadline and `PeerProtocolError` when the answer is no HTTP
or larger than allowed.

Left out on purpose: TLS (the mesh and the proxy have their own), compression, ranges,
cookies, redirects and the `Date` field.
"""

from orca.http.client import HttpClient, HttpReply, HttpStream
from orca.http.connect import Connect, listen_unix, tcp_connector, unix_connector
from orca.http.messages import (
    Headers,
    HttpLimits,
    Reply,
    Request,
    Response,
    StreamResponse,
    Upgrade,
    error_response,
)
from orca.http.server import serve_http

__all__ = [
    "Connect",
    "Headers",
    "HttpClient",
    "HttpLimits",
    "HttpReply",
    "HttpStream",
    "Reply",
    "Request",
    "Response",
    "StreamResponse",
    "Upgrade",
    "error_response",
    "listen_unix",
    "serve_http",
    "tcp_connector",
    "unix_connector",
]
