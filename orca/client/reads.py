"""What can be asked of a node without changing it, over whichever way the calls travel."""

from collections.abc import Sequence
from typing import Protocol, TypeVar
from urllib.parse import quote, urlencode

from orca.client.answers import Answer, decoded
from orca.client.discover import NodeAddress
from orca.errors import NotFoundError
from orca.model.access import ApiTokensReply, AuditReply
from orca.model.alert import AlertsReply, RulesReply, SilencesReply
from orca.model.ids import AllocationId, BlobDigest, LogIndex, ProjectName, ServiceId, split_service_id
from orca.model.lock_view import LocksReply
from orca.model.notice import ChannelsReply
from orca.model.placement_view import NodeCareReply, WhyReply
from orca.model.quorum_view import QuorumReply
from orca.model.secret_view import SecretsReply
from orca.model.series import SeriesReply
from orca.model.trust_view import AuthoritiesReply, TokensReply
from orca.model.units import WallMs
from orca.model.view import (
    AllocationsReply,
    EventsReply,
    GossipKeyReply,
    GossipReply,
    HistoryReply,
    KeysReply,
    NodesReply,
    NodeView,
    ReadyReply,
    ServiceReply,
    ServicesReply,
    StatsReply,
    StatusReply,
)

T = TypeVar("T")
Query = tuple[tuple[str, str | int | bool | None], ...]


class Reader(Protocol):
    """Carries a read to the node and its answer back."""

    async def call(self, method: str, target: str) -> Answer:
        """The answer; raises the node's error for a status of 400 or more."""
        ...


class NodeReads:
    """The reads of a node's API. Methods raise the node's own errors by class, and `NodeUnreachableError`."""

    def __init__(self, address: NodeAddress, reader: Reader) -> None:
        self.address = address
        self._reader = reader

    async def ping(self) -> None:
        """Returns when the node answers."""
        await self._reader.call("GET", "/healthz")

    async def get_text(self, path: str) -> str:
        """Whatever a GET of `path` answers, as text."""
        reply = await self._reader.call("GET", path)
        return reply.body.decode(errors="replace")

    async def why(self, service: ServiceId) -> WhyReply:
        """Why the copies of `service` are where they are."""
        return await self._get(service_path(service, "/why"), WhyReply)

    async def node_care(self, node: str) -> NodeCareReply:
        """What was decided about a node, and what is left on it."""
        return await self._get(f"/v1/nodes/{quote(node, safe='')}", NodeCareReply)

    async def status(self) -> StatusReply:
        """The whole cluster at a glance."""
        return await self._get("/v1/status", StatusReply)

    async def node(self) -> NodeView:
        """The node that answers."""
        return await self._get("/v1/node", NodeView)

    async def nodes(self) -> NodesReply:
        """All members, as the node that answers sees them."""
        return await self._get("/v1/nodes", NodesReply)

    async def quorum(self) -> QuorumReply:
        """The group that decides, as the node that answers knows it."""
        return await self._get("/v1/quorum", QuorumReply)

    async def tokens(self) -> TokensReply:
        """Join tokens, without their secrets."""
        return await self._get("/v1/tokens", TokensReply)

    async def authorities(self) -> AuthoritiesReply:
        """The cluster's CAs."""
        return await self._get("/v1/ca", AuthoritiesReply)

    async def alerts(self, *, service: ServiceId | None = None, has_resolved: bool = False) -> AlertsReply:
        """What is wrong; with `has_resolved` also what was."""
        query: Query = (("service", service), ("resolved", has_resolved or None))
        return await self._get(target_of("/v1/alerts", query), AlertsReply)

    async def alert_rules(self) -> RulesReply:
        """What each rule looks for."""
        return await self._get("/v1/alerts/rules", RulesReply)

    async def silences(self) -> SilencesReply:
        """Of which alerts nobody is told."""
        return await self._get("/v1/silences", SilencesReply)

    async def channels(self) -> ChannelsReply:
        """Who is told of alerts."""
        return await self._get("/v1/channels", ChannelsReply)

    async def series(self, query: Query) -> SeriesReply:
        """Figures over time; `query` as `GET /v1/series` takes it."""
        return await self._get(target_of("/v1/series", query), SeriesReply)

    async def gossip(self) -> GossipReply:
        """How gossip is doing on the node that answers."""
        return await self._get("/v1/gossip", GossipReply)

    async def gossip_key(self) -> GossipKeyReply:
        """The key that seals gossip."""
        return await self._get("/v1/gossip/key", GossipKeyReply)

    async def gossip_keys(self) -> KeysReply:
        """Which keys the members have."""
        return await self._get("/v1/gossip/keys", KeysReply)

    async def locks(self) -> LocksReply:
        """The deploy locks that are held."""
        return await self._get("/v1/locks", LocksReply)

    async def secrets(self, project: ProjectName | None = None) -> SecretsReply:
        """All secrets, or those of `project`, without their values."""
        return await self._get(target_of("/v1/secrets", (("project", project),)), SecretsReply)

    async def services(self, project: ProjectName | None = None) -> ServicesReply:
        """All services, or those of `project`."""
        return await self._get(target_of("/v1/services", (("project", project),)), ServicesReply)

    async def service(self, service: ServiceId) -> ServiceReply:
        """One service with its spec."""
        return await self._get(service_path(service), ServiceReply)

    async def history(self, service: ServiceId) -> HistoryReply:
        """Its revisions, newest first."""
        return await self._get(service_path(service, "/history"), HistoryReply)

    async def allocations(self, service: ServiceId | None = None) -> AllocationsReply:
        """All copies, or those of `service`."""
        return await self._get(target_of("/v1/allocations", (("service", service),)), AllocationsReply)

    async def ready(
        self, services: Sequence[ServiceId], *, within_s: float, copies: Sequence[AllocationId] = ()
    ) -> ReadyReply:
        """Which living nodes do not, within `within_s`, know the ready copies; with `copies` only the one asked."""
        query: Query = (
            *(("service", service) for service in services),
            *(("copy", copy) for copy in copies),
            ("within_ms", round(within_s * 1000)),
        )
        return await self._get(target_of("/v1/ready", query), ReadyReply)

    async def stats(self, *, service: ServiceId | None = None, allocation: AllocationId | None = None) -> StatsReply:
        """What copies use now."""
        query: Query = (("service", service), ("allocation", allocation))
        return await self._get(target_of("/v1/stats", query), StatsReply)

    async def events(  # noqa: PLR0913 - what can be chosen
        self,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
        service: ServiceId | None = None,
        allocation: AllocationId | None = None,
        is_of_cluster: bool = False,
        is_everywhere: bool = False,
        earlier: str = "",
    ) -> EventsReply:
        """One page of events after sequence `after`; None: the newest `limit`. All are below `before`.

        With `is_everywhere` those of all nodes, where pages back go by `earlier` of the page before.
        """
        query: Query = (
            ("after", after),
            ("before", before),
            ("limit", limit),
            ("service", service),
            ("allocation", allocation),
            ("cluster", is_of_cluster or None),
            ("everywhere", is_everywhere or None),
            ("earlier", earlier or None),
        )
        return await self._get(target_of("/v1/events", query), EventsReply)

    async def api_tokens(self) -> ApiTokensReply:
        """All API tokens, without their secrets."""
        return await self._get("/v1/api-tokens", ApiTokensReply)

    async def audit(
        self,
        *,
        limit: int = 100,
        before: LogIndex | None = None,
        since_ms: WallMs | None = None,
        actor: str | None = None,
        subject: str | None = None,
    ) -> AuditReply:
        """The newest records of the audit below index `before`, oldest first."""
        query: Query = (
            ("limit", limit),
            ("before", before),
            ("since_ms", since_ms),
            ("actor", actor),
            ("subject", subject),
        )
        return await self._get(target_of("/v1/audit", query), AuditReply)

    async def has_blob(self, digest: BlobDigest) -> bool:
        """Whether the node keeps that content."""
        try:
            await self._reader.call("HEAD", f"/v1/blobs/{quote(digest, safe=':')}")
        except NotFoundError:
            return False
        return True

    async def _get(self, target: str, reply: type[T]) -> T:
        got = await self._reader.call("GET", target)
        return decoded(got.body, reply, f"GET {target}")


def target_of(path: str, query: Query) -> str:
    """`path` with the fields that have a value behind it."""
    fields = [(key, _text(value)) for key, value in query if value is not None]
    return f"{path}?{urlencode(fields)}" if fields else path


def service_path(service: ServiceId, verb: str = "") -> str:
    """Where the node has `service`, and with `verb` what can be done there."""
    project, name = split_service_id(service)
    return f"/v1/services/{quote(project, safe='')}/{quote(name, safe='')}{verb}"


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
