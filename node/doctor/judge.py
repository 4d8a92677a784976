"""From reports to findings. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from orca.model.doctor import Finding, LinkKind, LinkView, NodeExamination, NodeReport
from orca.model.event import Severity
from orca.model.ids import NodeId
from orca.model.spec import RuntimeKind
from orca.model.units import WallMs, format_duration

CLOCK_WARNING_MS: Final = 2_000
CLOCK_ERROR_MS: Final = 60_000
"""Certificates are given with five minutes of grace; a clock that is off by more locks its node out."""
DISK_WARNING: Final = 0.10
DISK_ERROR: Final = 0.03
STORE_WARNING: Final = 0.75
CERTIFICATE_WARNING: Final = 1 / 4
"""Of a certificate's life that is left: it should have been renewed with a third of it left."""
RTT_WARNING_MS: Final = 150.0
_START: Final = {
    RuntimeKind.DOCKER: "`systemctl start docker`, or run the node with --no-docker",
    RuntimeKind.WASM: "`pip install --force-reinstall wasmtime` where Orca is installed, and start the node again",
}


def find(nodes: Sequence[NodeExamination]) -> tuple[Finding, ...]:
    """Everything that is wrong with `nodes`, the worst first, in a steady order."""
    names = {one.node: one.name for one in nodes}
    reports = [one.report for one in nodes if one.report is not None]
    found = [
        *_missing(nodes, reports, names),
        *_links(reports, names),
        *_clocks(nodes),
        *(finding for report in reports for finding in _of_node(report)),
        *_versions(reports),
    ]
    order = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}
    return tuple(sorted(found, key=lambda one: (order[one.severity], one.subject, one.message)))


def outlook(nodes: Sequence[NodeExamination]) -> tuple[str, ...]:
    """What goes on and what does not when one node dies, for the number of nodes that there is."""
    voters = [one for one in nodes if one.is_voter]
    living = [one for one in voters if not one.problem]
    need = len(voters) // 2 + 1
    spare = len(living) - need
    lines = ["When any node dies: what runs on the others goes on, is healed and is served there."]
    if spare < 0:
        lines.append(
            f"Now {len(living)} of {len(voters)} voters answer and {need} are needed: nothing can be decided. "
            "Bring one back, or read `orca quorum recover --help` when they are gone for good."
        )
    elif spare == 0 and len(voters) == 1:
        name = voters[0].name
        lines.append(
            f"Only {name} decides: when it dies, no deploy, scale or move is possible until it is back. "
            f"{_more(3 - len(nodes))} and three vote, of which any one may die."
        )
    elif spare == 0:
        lines.append(
            f"{len(living)} of {len(voters)} voters answer and all of them are needed: when one more dies, nothing can "
            "be decided. A voter that stays away is replaced when there is a node to take its seat."
        )
    else:
        lines.append(
            f"{len(voters)} nodes vote and {need} are needed: "
            f"{'any one' if spare == 1 else f'any {spare}'} of them may die, and decisions go on within seconds."
        )
    return tuple(lines)


def _more(count: int) -> str:
    if count <= 0:
        return "Wait until the others have their seats"
    return f"Join {count} more node{'' if count == 1 else 's'}"


def _missing(
    nodes: Sequence[NodeExamination], reports: Sequence[NodeReport], names: dict[NodeId, str]
) -> Iterator[Finding]:
    for one in nodes:
        if one.report is not None:
            continue
        heard = "never heard" if one.heard_age_ms is None else f"last heard {_span(one.heard_age_ms)} ago"
        reach = sorted(
            names[report.node]
            for report in reports
            if any(link.is_good for link in report.links if link.peer == one.node)
        )
        mend = "see whether it runs: `orca status` there; `orca up` starts it as who it was"
        if reach:
            mend = f"{', '.join(reach)} can reach it, so it runs: look at the links below"
        yield Finding(
            severity=Severity.ERROR,
            subject=one.name,
            message=f"gives no report ({one.problem or 'no answer'}); {heard}",
            mend=mend,
        )


def _links(reports: Sequence[NodeReport], names: dict[NodeId, str]) -> Iterator[Finding]:
    by_way = {(report.node, link.peer, link.kind): link for report in reports for link in report.links}
    present = {report.node for report in reports}
    for (node, peer, kind), link in by_way.items():
        if link.is_good:
            if link.rtt_ms is not None and link.rtt_ms > RTT_WARNING_MS:
                yield Finding(
                    severity=Severity.WARNING,
                    subject=names[node],
                    message=f"needs {link.rtt_ms:.0f} ms to {names.get(peer, peer)} and back by {kind.value}",
                    mend='set `[gossip] profile = "wan"` on all nodes when they are that far apart',
                )
            continue
        if peer not in present:
            continue  # that it does not answer at all is a finding of its own
        back = by_way.get((peer, node, kind))
        way = "one way only: the other way is open" if back is not None and back.is_good else "not at all"
        where = f"{names.get(peer, peer)} by {_words(kind)} at {link.address}"
        yield Finding(
            severity=Severity.ERROR,
            subject=names[node],
            message=f"does not reach {where} ({way}; {link.problem})",
            mend=_firewall(names.get(peer, peer), link),
        )


def _words(kind: LinkKind) -> str:
    return {LinkKind.UDP: "gossip (UDP)", LinkKind.TCP: "gossip (TCP)", LinkKind.MESH: "the mesh (TCP)"}[kind]


def _firewall(peer: str, link: LinkView) -> str:
    port = link.address.rpartition(":")[2]
    protocol = "udp" if link.kind is LinkKind.UDP else "tcp"
    if "certificate" in link.problem or "revoked" in link.problem:
        return f"on {peer}: `orca ca show`, then join again with a new token where the certificate is not good"
    return f"on {peer}: `iptables -I INPUT -p {protocol} --dport {port} -j ACCEPT`, and the same in firewalls between"


def _clocks(nodes: Sequence[NodeExamination]) -> Iterator[Finding]:
    import statistics

    seen = [one for one in nodes if one.report is not None]
    if len(seen) < 2:
        return
    # Between two nobody can tell which is right: the difference is told once, of the one that was asked about.
    middle = 0.0 if len(seen) == 2 else statistics.median(one.clock_offset_ms for one in seen)
    for one in seen:
        offset = one.clock_offset_ms - middle
        certain = abs(offset) - one.clock_error_ms
        if certain < CLOCK_WARNING_MS:
            continue
        yield Finding(
            severity=Severity.ERROR if certain >= CLOCK_ERROR_MS else Severity.WARNING,
            subject=one.name,
            message=f"its clock is {_span(int(abs(offset)))} {'ahead of' if offset > 0 else 'behind'} "
            + ("the others" if len(seen) > 2 else "the other's, or the other's is wrong"),
            mend=f"on {one.name}: `timedatectl set-ntp true`, or `date -s` to the right time",
        )


def _of_node(report: NodeReport) -> Iterator[Finding]:
    for runtime in report.runtimes:
        if not runtime.is_available:
            yield Finding(
                severity=Severity.WARNING,
                subject=report.name,
                message=f"{runtime.kind.value} is not available: {runtime.reason or 'no reason given'}",
                mend=f"on {report.name}: {_START[runtime.kind]}",
            )
    for disk in report.disks:
        share = disk.free_bytes / disk.total_bytes if disk.total_bytes else 1.0
        if share < DISK_WARNING:
            yield Finding(
                severity=Severity.ERROR if share < DISK_ERROR else Severity.WARNING,
                subject=report.name,
                message=f"{share:.0%} of the disk of {disk.path} is free ({disk.free_bytes // 2**20} MiB)",
                mend=f"on {report.name}: `docker system prune`, or a larger disk",
            )
    if report.store_bytes_max and report.store_bytes / report.store_bytes_max > STORE_WARNING:
        yield Finding(
            severity=Severity.WARNING,
            subject=report.name,
            message=f"{report.store_bytes / report.store_bytes_max:.0%} of its store is in use",
            mend=f"on {report.name}: a larger `[store] map_bytes_max`, then start it again",
        )
    yield from _certificate(report)
    if not report.is_gossip_sealed:
        yield Finding(
            severity=Severity.WARNING,
            subject=report.name,
            message="gossip is not encrypted: who reaches its port can say anything in anybody's name",
            mend="take `gossip.encrypt = false` out on all nodes",
        )


def _certificate(report: NodeReport) -> Iterator[Finding]:
    starts, ends = report.certificate_starts_at_ms, report.certificate_ends_at_ms
    if starts is None or ends is None:
        return
    left = (ends - report.at_ms) / max(1, ends - starts)
    if left > CERTIFICATE_WARNING:
        return
    if report.at_ms >= ends:
        message = f"its certificate ended {_span(report.at_ms - ends)} ago"
        mend = f"on {report.name}: `orca join PEER` with a new token and the same data directory"
    else:
        message = f"its certificate ends in {_span(WallMs(ends - report.at_ms))} and was not renewed"
        mend = f"`orca quorum` shows whether anything can be decided; then start {report.name} again"
    yield Finding(
        severity=Severity.ERROR if left <= 0 else Severity.WARNING, subject=report.name, message=message, mend=mend
    )


def _versions(reports: Sequence[NodeReport]) -> Iterator[Finding]:
    versions = sorted({report.version for report in reports})
    if len(versions) < 2:
        return
    newest = max(versions, key=_version_key)
    behind = sorted(report.name for report in reports if report.version != newest)
    yield Finding(
        severity=Severity.INFO,
        subject=", ".join(behind),
        message=f"runs an older release than the newest in the cluster, {newest}",
        mend="install the newer release there, one node at a time",
    )


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else -1 for part in version.split("."))


def _span(milliseconds: int) -> str:
    return format_duration(milliseconds / 1000 if milliseconds < 1000 else round(milliseconds / 1000))
