"""A node's own settings, decoded from `cluster.toml` and from the command line.

Pure: the agent reads the file. Each field says its unit, why it has its default
and what a change costs.
"""

import enum
from base64 import b64decode
from ipaddress import ip_address, ip_network
from typing import Final

import msgspec

from orca.errors import InvalidConfigError, Problem

API_PORT: Final = 6880
GOSSIP_PORT: Final = 7946
MESH_PORT: Final = 6881
HTTP_PORT: Final = 80
HTTP_FALLBACK_PORT: Final = 8080
HTTPS_PORT: Final = 443
HTTPS_FALLBACK_PORT: Final = 8443
SERF_RPC_PORT: Final = 7373


class LogFormat(enum.Enum):
    """How the node writes its log: for people or for machines."""

    HUMAN = "human"
    JSON = "json"


def _check_auth_key(name: str, key: str) -> None:
    if key and (key != key.strip() or not key.isprintable()):
        raise ValueError(f"{name} has spaces around it or characters that no command line can give")


def _check_address(name: str, host: str) -> None:
    try:
        ip_address(host)
    except ValueError:
        raise ValueError(f"{name} is {host!r}; it has to be an IP address") from None


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of `cluster.toml`."""


class ReconcilerConfig(_Section, frozen=True):
    """How eagerly a node makes itself look like its assignments."""

    starts_max: int = 8
    """Simultaneous prepares, and simultaneous starts. Container starts are CPU-bound; on two
    cores an engine was fastest with eight at a time, and more only made each of them slower."""

    backoff_first_s: float = 1.0
    """Wait before the second restart (the first is at once), doubled each time."""

    backoff_max_s: float = 300.0
    """The longest wait between two tries."""

    backoff_reset_s: float = 60.0
    """A copy that ran so long is no crash loop any more: its next death restarts at once."""

    call_deadline_s: float = 60.0
    """How long a start, stop or remove may take before it counts as failed; a stop gets
    its own `stop_timeout` on top."""

    prepare_deadline_s: float = 1800.0
    """How long a pull or a compilation may take: big images on slow links need minutes."""


class SchedulerConfig(_Section, frozen=True):
    """How the leader plans."""

    revisions_kept: int = 20
    """Revisions of one service that `orca rollback` can go back to."""

    allocations_per_plan: int = 2000
    """Changes in one plan, so that a command stays well below the frame limit."""


class StoreConfig(_Section, frozen=True):
    """The node's LMDB environment, and the log of Raft beside it."""

    map_bytes_max: int = 1 << 30
    """Largest size of the store; a sparse file, so unused room costs nothing. The log beside it has the same limit."""

    events_kept: int = 50_000
    """Events of this node that `orca events` can show."""

    log_entries_kept: int = 5_000
    """Entries applied since the last snapshot after which the log is compacted."""


class ClusterSection(_Section, frozen=True):
    """The group of nodes that decides."""

    voters: int | None = None
    """How many nodes vote: 1, 3, 5 or 7; by default what fits the size of the cluster."""

    voter_replace_after_s: float = 60.0
    """How long a voter is believed dead before another node takes its seat: longer than a reboot
    saves copying the state, shorter shortens the time in which one more failure stops decisions."""

    def __post_init__(self) -> None:
        if self.voters is not None and self.voters not in {1, 3, 5, 7}:
            raise ValueError(f"cluster.voters is {self.voters}; it is 1, 3, 5 or 7")
        if not self.voter_replace_after_s > 0:
            raise ValueError(f"cluster.voter_replace_after_s is {self.voter_replace_after_s}; it has to be positive")


class ApiSection(_Section, frozen=True):
    """Who may use the API of this node, and how it is secured. Where it listens is `api_host` and `api_port`."""

    trust_loopback: bool | None = None
    """Whether programs of this computer need no token; by default so while the API listens on loopback only.
    On a computer that several people use, set it to false: every user of it could do everything."""

    tls: bool | None = None
    """Whether it speaks TLS, with this node's certificate; by default so on every address that is not loopback:
    a token that travels in the clear belongs to everybody on the way."""

    names: tuple[str, ...] = ()
    """What else this node is called in URLs, where it listens on loopback behind a proxy."""


class ProxySection(_Section, frozen=True):
    """The ingress. Where it listens is `http_host`, `http_port` and `https_port`."""

    tls: bool = True
    """Whether it serves HTTPS beside HTTP. Off where something in front of the node ends TLS, so that nobody needs it
    here."""

    trusted_proxies: tuple[str, ...] = ()
    """Load balancers in front of this node: IP addresses, or networks like "10.0.0.0/8". What they say of the client in
    X-Forwarded-For, -Proto and -Host is passed on; what anybody else says there is replaced by what the node sees."""

    def __post_init__(self) -> None:
        for number, network in enumerate(self.trusted_proxies):
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(
                    f"proxy.trusted_proxies[{number}] is {network!r}: {error}; "
                    'an IP address is right, or a network like "10.0.0.0/8"'
                ) from None


class GossipProfile(enum.Enum):
    """How quickly members probe each other; see `gossip.swim.config`."""

    ORCA = "orca"
    LAN = "lan"
    WAN = "wan"
    LOCAL = "local"


class GossipBackend(enum.Enum):
    """Who keeps the membership."""

    ORCA = "orca"
    """The node itself."""
    SERF = "serf"
    """A Serf agent that runs beside the node."""


class RpcSection(_Section, frozen=True):
    """Serf's RPC port on this node, so that the `serf` command line works against it; off without a key."""

    key: str = ""
    """What clients have to show (`serf -rpc-auth`). Whoever has it can send events and make this node leave."""

    host: str = "127.0.0.1"
    """The protocol carries the key in the clear: choose another address than loopback on trusted networks only."""

    port: int = SERF_RPC_PORT

    def __post_init__(self) -> None:
        _check_auth_key("gossip.rpc.key", self.key)
        _check_address("gossip.rpc.host", self.host)
        if not self.key and (self.host, self.port) != ("127.0.0.1", SERF_RPC_PORT):
            raise ValueError(
                f"gossip.rpc at {self.host}:{self.port} has no key, and whoever reaches it could make this node leave; "
                "set gossip.rpc.key"
            )


class AgentSection(_Section, frozen=True):
    """The Serf agent beside the node, for gossip.backend = "serf"."""

    host: str = "127.0.0.1"
    """Where the agent's RPC listens (`-rpc-addr`); an IP address."""

    port: int = SERF_RPC_PORT
    key: str = ""
    """The agent's `rpc_auth`; empty when it has none."""

    def __post_init__(self) -> None:
        _check_auth_key("gossip.agent.key", self.key)
        _check_address("gossip.agent.host", self.host)
        if not 0 < self.port <= 65535:
            raise ValueError(f"gossip.agent.port is {self.port}; the port of an agent is 1 to 65535")


class GossipSection(_Section, frozen=True):
    """Membership: memberlist and Serf on one port, UDP and TCP."""

    backend: GossipBackend = GossipBackend.ORCA
    """Who keeps the membership; with `serf` a running agent does (`agent`), and this node opens no gossip port."""

    host: str = ""
    """Where gossip listens; empty: `listen` of the node."""

    port: int = GOSSIP_PORT
    advertise: str = ""
    """What others are told to send to: an IP address; empty: `advertise` of the node."""

    profile: GossipProfile = GossipProfile.ORCA
    """Probes twice a second; `lan` is Serf's own and right in a cluster with many Serf agents."""

    seeds: tuple[str, ...] = ()
    """Further members to find by gossip: HOST, HOST:PORT or [IPV6]:PORT. For a node that belongs to its cluster
    already, when all addresses that it remembers have changed, and for plain Serf agents; it lets nobody in."""

    encrypt: bool = True
    """Seal all gossip with the cluster's key, which its founder makes and a join hands out. Off only on loopback:
    for a cluster with plain Serf agents that have no key."""

    key: str = ""
    """base64 of 16, 24 or 32 bytes: what the founder of a cluster takes instead of a key of its own making."""

    rpc: RpcSection = RpcSection()
    agent: AgentSection = AgentSection()

    def __post_init__(self) -> None:
        if self.backend is GossipBackend.SERF:
            self._check_delegation()
        elif self.agent != AgentSection():
            raise ValueError(
                'gossip.agent is set and nothing asks it; set gossip.backend = "serf" too, or leave it out'
            )
        elif self.key:
            _check_key(self.key)
        self._check_sealing()

    def _check_sealing(self) -> None:
        for host in (self.host, self.advertise):
            if host and not _is_loopback(host) and not self.encrypt:
                raise ValueError(
                    f"gossip on {host} that is not sealed would believe everybody; "
                    "leave gossip.encrypt on, or listen on loopback only"
                )
        if not self.encrypt and not self.host:
            raise ValueError('gossip.encrypt is off, so gossip.host has to be loopback, for example "127.0.0.1"')

    def _check_delegation(self) -> None:
        """What is the agent's affair is not said here as well, where nothing would come of it."""
        if self.host:
            _check_address("gossip.host", self.host)
        if self.key:
            raise ValueError(
                'gossip.key is of no use with gossip.backend = "serf": the agent seals (`serf agent -encrypt`)'
            )
        if self.rpc.key:
            raise ValueError(
                'gossip.rpc is not served with gossip.backend = "serf": the agent has that port itself, at gossip.agent'
            )


def _is_local_name(host: str) -> bool:
    """Whether the API listens on this computer only: a name that is no address may mean anything, but for one."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        raise ValueError(f"{host!r} is no IP address; nodes are told addresses, not names") from None


def _check_key(text: str) -> None:
    try:
        length = len(b64decode(text, validate=True))
    except ValueError:
        length = 0
    if length not in {16, 24, 32}:
        raise ValueError("gossip.key is no base64 of 16, 24 or 32 bytes")


class NodeConfig(_Section, frozen=True):
    """Everything that `orca up` can be told."""

    data_dir: str = ""
    """Where state lives; empty: $ORCA_DATA_DIR, else /var/lib/orca for root, else ~/.local/share/orca."""

    name: str = ""
    """What people call this node; empty: its host name."""

    api_host: str = "127.0.0.1"
    """Whoever calls from elsewhere needs an API token; see the table `api`."""

    api_port: int = API_PORT
    http_host: str = "0.0.0.0"  # noqa: S104 - the ingress is for the world
    http_port: int = HTTP_PORT
    """Ingress; when this node may not bind it, 8080 is taken and said so."""

    https_port: int = HTTPS_PORT
    """Ingress in TLS, at `http_host`; when this node may not bind it, 8443 is taken and said so."""

    port_offset: int = 0
    """Added to every port, so that several nodes run on one computer."""

    labels: dict[str, str] = {}
    log_format: LogFormat = LogFormat.HUMAN
    docker: bool = True
    docker_url: str = ""
    """Engine address; empty: DOCKER_HOST or the default socket."""

    listen: str = "0.0.0.0"  # noqa: S104 - nodes prove who they are to each other
    """Where gossip and mesh listen: an IP address; 0.0.0.0 and :: are all of this computer."""

    advertise: str = ""
    """The IP address that other nodes are told; empty: the one by which this computer reaches others."""

    mesh_port: int = MESH_PORT
    """Where nodes of the cluster talk to each other, and where new ones join."""

    api: ApiSection = ApiSection()
    proxy: ProxySection = ProxySection()
    gossip: GossipSection = GossipSection()
    cluster: ClusterSection = ClusterSection()
    reconciler: ReconcilerConfig = ReconcilerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    store: StoreConfig = StoreConfig()

    @property
    def trusts_loopback(self) -> bool:
        """Whether who connects from this computer is an admin without a token."""
        return _is_local_name(self.api_host) if self.api.trust_loopback is None else self.api.trust_loopback

    @property
    def has_api_tls(self) -> bool:
        """Whether the API speaks TLS by TCP."""
        return not _is_local_name(self.api_host) if self.api.tls is None else self.api.tls

    @property
    def gossip_offset(self) -> GossipSection:
        """The section of gossip with the offset in the port of Serf's RPC."""
        rpc = self.gossip.rpc
        if not (rpc.key and rpc.port and self.port_offset):
            return self.gossip
        shifted = msgspec.structs.replace(rpc, port=rpc.port + self.port_offset)
        return msgspec.structs.replace(self.gossip, rpc=shifted)

    def __post_init__(self) -> None:
        ports = (
            ("api_port", self.api_port),
            ("http_port", self.http_port),
            ("https_port", self.https_port),
            ("mesh_port", self.mesh_port),
            ("gossip.port", self.gossip.port),
            ("gossip.rpc.port", self.gossip.rpc.port),
        )
        for key, port in ports:
            if not 0 <= port + self.port_offset <= 65535:
                raise ValueError(f"{key} + port_offset is {port + self.port_offset}; a port is 0 to 65535")
        for host in (self.listen, self.advertise):
            if host:
                _is_loopback(host)
        for key in self.labels:
            if not key or key.startswith("orca."):
                raise ValueError(f"label {key!r}: a label needs a name, and `orca.` is reserved")


def decode_config(text: bytes, *, filename: str) -> NodeConfig:
    """The settings in the TOML document `text`.

    Raises InvalidConfigError naming the file and what msgspec found: unknown keys,
    wrong types and values out of range.
    """
    try:
        return msgspec.toml.decode(text, type=NodeConfig)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        known = ", ".join(NodeConfig.__struct_fields__)
        problem = Problem(message=str(error), file=filename, allowed=f"the keys {known}")
        raise InvalidConfigError(f"{filename} cannot be used: {error}", problems=(problem,)) from error
