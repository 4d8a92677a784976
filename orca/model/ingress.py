"""How the proxy of every node treats requests for a service, beside where they go."""

import enum

import msgspec


class HttpsMode(enum.Enum):
    """What becomes of a request that comes in the clear."""

    BOTH = "both"
    """It is served like one in TLS."""
    REDIRECT = "redirect"
    """It is sent to HTTPS (308), where its domain has a certificate."""


class TlsSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A certificate of one's own for the domains of a service: the names of the secrets that hold it and its key.

    Both are PEM; after the certificate come those of who signed it.
    """

    certificate: str
    key: str


class IngressSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What holds for all routes of a service; nothing of it needs new copies.

    `queue_timeout_s`: how long a request waits for a copy while none is ready: longer than a restart or the gap
    between two copies, shorter than people's patience; 0 answers 503 at once. `queue_max`: how many requests one
    node lets wait for the service; the next one gets its 503 at once. A service that is stopped, or scaled to
    nothing, has nobody to wait for. `https`: whether requests in the clear are sent to HTTPS; by default both are
    served. `tls`: a certificate of one's own; None: one of the cluster's CA.
    """

    queue_timeout_s: float = 5.0
    queue_max: int = 100
    https: HttpsMode = HttpsMode.BOTH
    tls: TlsSpec | None = None
