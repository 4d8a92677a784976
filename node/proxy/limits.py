"""What the proxy allows, and for how long it waits."""

import msgspec


class ProxyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds; each default says why.

    `head_bytes_max`: a request line and its fields; browsers with many cookies stay
    below 16 KiB. `target_bytes_max`: what common servers take as a request target.
    `head_lines_max`: fields in one head.
    `header_timeout_s`: from the first byte of a head to its end; a slow-loris client
    holds a connection no longer. `idle_timeout_s`: between requests; longer than the
    60 s after which many clients and load balancers give up on their own, so that they
    close first. `stall_timeout_s`: without one byte of progress in a body, in either
    direction; there is no limit on a whole transfer.
    `connect_timeout_s`: targets are at most one mesh hop away. `response_timeout_s`: from the
    last byte of a request to the head of its response. `continue_timeout_s`: how long
    a client that expects 100 waits for the workload's own 100.
    `tunnel_idle_timeout_s`: without a byte in either direction after a 101.
    `upstream_idle_timeout_s`: a kept connection to a workload; below the 5 s after
    which the shortest-tempered common servers close theirs.
    `upstream_idle_max`: kept connections to one target.
    `refused_patience_s`: how long a request waits for news when every copy refuses connections; longer than the
    death of one takes to be known.
    `attempts_max`: targets tried for one request.
    `connections_max`: clients at once; each costs two descriptors and about 50 KiB.
    `handshake_timeout_s`: from a connection to the TLS port to the end of its handshake, which takes two round trips.
    `handshakes_max`: handshakes at once; of more, the one that has taken longest is given up.
    `linger_timeout_s`: how long we read on after our last byte, so that a reset does not
    overtake the response (RFC 9112 §9.6).
    `interim_max`: 1xx answers before a final one.
    """

    head_bytes_max: int = 32 * 1024
    target_bytes_max: int = 8 * 1024
    head_lines_max: int = 100
    header_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    stall_timeout_s: float = 120.0
    connect_timeout_s: float = 3.0
    response_timeout_s: float = 60.0
    continue_timeout_s: float = 1.0
    tunnel_idle_timeout_s: float = 3600.0
    upstream_idle_timeout_s: float = 4.0
    upstream_idle_max: int = 64
    refused_patience_s: float = 1.0
    attempts_max: int = 3
    connections_max: int = 4096
    handshake_timeout_s: float = 10.0
    handshakes_max: int = 512
    linger_timeout_s: float = 2.0
    interim_max: int = 16
