"""The ingress: HTTP/1.1, in the clear or in TLS, from anybody to ready instances, in a fast lane or the long way.

Theory of operation. Every node answers for every domain. What goes where is a
`RouteTable` (`routes`), immutable and swapped whole; a request reads the table once
for every try, so it never sees half of a change, and one that is under way when
its target leaves the table simply finishes. `balancer` picks the target, `drain`
counts what is in flight for each allocation and knows when a drain is over.

There are two ways through. A connection lives in the `lane`: callbacks of a `reactor`, an edge-triggered epoll that
one trio task serves, read a plain head in one pass (`plain`), send it over a kept connection and relay the answer
(`carriage`; long bodies are moved by the kernel through `pipes`). Whatever is not plain goes the long way: a task of
its own with h11 on both sides (`connection`, `exchange`), which is the part to read and to prove. The lane never
answers, refuses or tries again by itself; it hands over, also in the middle of a request. What it takes it sends byte
for byte as the long way would, which a test proves by drawing heads. A plain request costs a tenth of the long way.

The long way: a head is judged three times. `heads` looks at the raw bytes and refuses whatever two
parsers could read differently: a bare LF or CR, folding, control bytes, more than one
framing field, Content-Length beside Transfer-Encoding, Transfer-Encoding in HTTP/1.0,
`content_length` look-alikes, several Hosts (RFC 9112 §2.2, §3.2, §5, §6.3, §11.2).
Then h11 must accept the same bytes. What goes out is never copied: h11 writes a new
head from the parsed fields. Any refusal ends the connection, because after it nobody
knows where the next request begins.

Bodies (`bodies`) stream with one buffer of at most one read on each side: nothing is
read before the other side took the last piece, which is the back-pressure. Chunked
bodies are decoded strictly and encoded anew; extensions and trailers are checked and
dropped (RFC 9112 §7.1.1 and §7.1.2 allow both). A response that breaks off is never
ended cleanly: the client's connection is reset, so that half a file cannot pass for a
whole one.

A client that resets its connection while it waits gives its target free at once
(`wires`). One that only ends its sending may still listen, so it is served on.

TLS is a socket that reads and writes like any other (`tls`), so both ways serve it alike; only the kernel cannot move
its bodies. `door` does the handshakes, one at a time and each with a deadline. The name that a client asks for chooses
the certificate from a `CertificateTable` (`certificates`), immutable and swapped whole; a name without one is refused
with an alert, and whoever speaks in the clear is told so. Connections go on under a swap as they began.

Where a service wants it, a request in the clear for a name that has a certificate gets a 308 to HTTPS instead of a
copy, unless a trusted load balancer says that its client did use TLS.

While no copy of a service is ready, requests for it wait (`queue`): up to the service's `queue_max`, each for its
`queue_timeout_s`, then 503 with Retry-After. Where every copy refuses connections, one has mostly just died, and a
request waits a second for the table to say so. A service that is stopped or scaled to nothing answers 503 at once.

Before a copy stops, its node asks all that live to let go of it (`farewell`): each answers when its table has no such
target and again when none of its requests is left there. Then the copy may stop without one request failing.

What may be tried again: a connect that failed, always and on another target; a
request without a body and with an idempotent method whose connection died before the
first byte of an answer. Nothing else, since it may have had its effect.

`connection` reads one request of a client, `exchange` carries it to a target and back,
`tunnel` copies bytes after a 101, `upstream` keeps idle connections, `remote` reaches
instances of other nodes through the mesh, `traffic` is what all connections share,
`server` accepts. Left out: caching, compression, HTTP/2, certificates of clients, request buffering;
trailers; CONNECT and TRACE (answered 405).
"""
