"""A snapshot in the text format of Prometheus. Pure, but for what the process says of itself."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from node.metrics.snapshot import Snapshot
from node.proxy.latency import BOUNDS_S

MEDIA: Final = CONTENT_TYPE_LATEST


def expose(snapshot: Snapshot) -> bytes:
    """The answer to a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(families(snapshot)))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._found


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Every family of one snapshot."""
    info = GaugeMetricFamily(
        "orca_build_info", "1, labelled with the release and the node's name.", labels=["version", "node"]
    )
    info.add_metric([snapshot.version, snapshot.node], 1)
    yield info
    yield from _services(snapshot)
    yield from _group(snapshot)
    yield from _gossip(snapshot)
    yield from _proxy(snapshot)
    yield from _mesh(snapshot)
    yield _gauge("orca_store_used_bytes", "Bytes that the pages of the store take.", snapshot.store_used_bytes)
    yield _gauge("orca_store_limit_bytes", "Bytes from which on it refuses to grow.", snapshot.store_limit_bytes)


def _services(snapshot: Snapshot) -> Iterator[Metric]:
    wanted = GaugeMetricFamily("orca_service_copies_wanted", "Copies that are wanted.", labels=["service"])
    ready = GaugeMetricFamily("orca_service_copies_ready", "Copies that are ready.", labels=["service"])
    restarts = GaugeMetricFamily(
        "orca_service_restarts", "How often the copies that there are were started again.", labels=["service"]
    )
    rollout = GaugeMetricFamily(
        "orca_service_rollout",
        "1, labelled with the state of its newest revision's rollout.",
        labels=["service", "state"],
    )
    for one in snapshot.services:
        wanted.add_metric([one.name], one.wanted)
        ready.add_metric([one.name], one.ready)
        restarts.add_metric([one.name], one.restarts)
        rollout.add_metric([one.name, one.rollout], 1)
    yield from (wanted, ready, restarts, rollout)


def _group(snapshot: Snapshot) -> Iterator[Metric]:
    quorum = snapshot.quorum
    yield _gauge("orca_raft_leader", "1 when this node leads.", snapshot.is_leader)
    yield _gauge("orca_raft_term", "The present term.", quorum.term)
    yield _gauge("orca_raft_last_index", "The last index of this node's log.", snapshot.last_index)
    yield _gauge("orca_raft_commit_index", "How far the log is committed.", quorum.commit_index)
    yield _gauge("orca_raft_applied_index", "How far it is applied here.", quorum.applied_index)
    yield _gauge("orca_raft_voters", "Voters of the group.", sum(one.role.value != "learner" for one in quorum.members))
    yield _gauge("orca_raft_voters_alive", "Those that live, as this node knows.", quorum.voters_alive)
    yield _gauge("orca_raft_has_quorum", "1 while enough of them live to decide.", quorum.has_quorum)
    yield _counter("orca_raft_messages_dropped", "Messages of peers that waited too long.", snapshot.dropped_messages)


def _gossip(snapshot: Snapshot) -> Iterator[Metric]:
    gossip = snapshot.gossip
    members = GaugeMetricFamily("orca_members", "Members of the gossip by state.", labels=["state"])
    for state, count in sorted(Counter(one.state.value for one in snapshot.members.members).items()):
        members.add_metric([state], count)
    yield members
    yield _labelled("orca_gossip_events", "What gossip has counted, by kind.", "kind", gossip.counts)
    yield _labelled("orca_gossip_drops", "What came in and was not taken in, by cause.", "cause", gossip.drops)
    queues = GaugeMetricFamily("orca_gossip_queue_length", "What waits for a packet, by queue.", labels=["queue"])
    for name, length in sorted(gossip.queues.items()):
        queues.add_metric([name], length)
    yield queues
    yield _gauge("orca_gossip_health_score", "How late this node is itself; 0 is in time.", gossip.health_score)
    yield _gauge("orca_gossip_facts_bytes", "Bytes of facts that it holds.", gossip.fact_bytes)


def _proxy(snapshot: Snapshot) -> Iterator[Metric]:
    proxy = snapshot.proxy
    yield _counter("orca_proxy_requests", "Requests to the proxy.", proxy.requests)
    classes = {f"{number}xx": count for number, count in enumerate(proxy.responses) if number}
    yield _labelled("orca_proxy_responses", "Final answers, by class of status.", "code", classes)
    yield _gauge("orca_proxy_requests_in_flight", "Requests that are being answered.", proxy.in_flight)
    yield _gauge("orca_proxy_requests_waiting", "Requests that wait for a copy.", proxy.waiting)
    yield _gauge("orca_proxy_connections", "Connections of clients.", proxy.connections)
    yield _gauge("orca_proxy_upstream_connections_idle", "Kept connections to copies.", proxy.upstream_idle)
    for name, text, count in (
        ("connections", "Connections of clients that were made.", proxy.connections_total),
        ("requests_waited", "Requests that came while no copy was ready.", proxy.waited),
        ("upstream_errors", "Tries at a copy that failed.", proxy.upstream_errors),
        ("retries", "Requests that were tried at another copy.", proxy.retries),
        ("requests_cut_off", "Requests that a drain ended.", proxy.cut_off),
        ("answers_broken", "Answers that broke off.", proxy.broken),
        ("connections_evicted", "Idle connections that were closed to make room.", proxy.evicted),
        ("tls_handshakes", "Handshakes of TLS that succeeded.", proxy.handshakes),
        (
            "tls_handshakes_failed",
            "Handshakes of TLS that did not: slow, garbage, or a name without a certificate.",
            proxy.handshakes_failed,
        ),
        ("bugs", "Connections that an unexpected error ended.", proxy.bugs),
    ):
        yield _counter(f"orca_proxy_{name}" if name != "connections" else "orca_proxy_connections_made", text, count)
    answers = CounterMetricFamily(
        "orca_service_answers",
        "Answers of a service through this node, by class of status.",
        labels=["service", "code"],
    )
    seconds = HistogramMetricFamily(
        "orca_service_answer_seconds", "From a request to the head of its answer.", labels=["service"]
    )
    for service, traffic in sorted(snapshot.traffic.items()):
        for number, count in enumerate(traffic.answers):
            if count:
                answers.add_metric([service, f"{number}xx"], count)
        below, sums = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), traffic.buckets, strict=True):
            below += count
            sums.append((bound, below))
        seconds.add_metric([service], buckets=sums, sum_value=traffic.seconds)
    yield from (answers, seconds)


def _mesh(snapshot: Snapshot) -> Iterator[Metric]:
    mesh = snapshot.mesh
    counts = {
        "accepted": mesh.accepted,
        "too_many": mesh.too_many,
        "handshake_failed": mesh.handshakes_failed,
        "handshake_evicted": mesh.handshakes_evicted,
        "forbidden": mesh.forbidden,
        "join": mesh.joins,
    }
    yield _labelled(
        "orca_mesh_connections", "Connections that came to the mesh, by what became of them.", "end", counts
    )
    connected = [one for one in snapshot.peers if one.is_connected]
    yield _gauge("orca_mesh_peers_connected", "Peers that it is connected with.", len(connected))
    sent = GaugeMetricFamily("orca_mesh_sent_bytes", "Bytes sent on the present connection to a peer.", labels=["peer"])
    received = GaugeMetricFamily("orca_mesh_received_bytes", "Bytes that came on it.", labels=["peer"])
    trip = GaugeMetricFamily("orca_mesh_round_trip_seconds", "The last round trip to a peer.", labels=["peer"])
    for one in connected:
        sent.add_metric([str(one.node)], one.sent_bytes)
        received.add_metric([str(one.node)], one.received_bytes)
        if one.round_trip_s is not None:
            trip.add_metric([str(one.node)], one.round_trip_s)
    yield from (sent, received, trip)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=float(value))


def _labelled(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, count in sorted(counts.items()):
        family.add_metric([key], count)
    return family
