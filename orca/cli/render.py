"""Tables of what a node answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from orca.cli.text import Cell, Column, clean, cut, fits, wrap
from orca.commands.names import current_copies, slot_name
from orca.model.allocation import DesiredStatus, Phase
from orca.model.event import Severity
from orca.model.ids import display_name
from orca.model.units import format_bytes, format_cpu, format_duration
from orca.model.view import RolloutState

if TYPE_CHECKING:
    from orca.cli.console import Console
    from orca.commands.ps import CopyList
    from orca.commands.version import Versions
    from orca.model.event import NodeEvent
    from orca.model.holding import LockView
    from orca.model.spec import RouteSpec
    from orca.model.view import (
        AllocationView,
        HistoryReply,
        IngressView,
        NodeSilence,
        NodeView,
        Observation,
        ServiceView,
        StatsReply,
        StatusReply,
    )

WHY_LINES_MAX: Final = 3
STALE_MS: Final = 10_000

PHASE_STYLES: Final = {
    Phase.PENDING: "yellow",
    Phase.PREPARING: "cyan",
    Phase.STARTING: "cyan",
    Phase.RUNNING: "",
    Phase.BACKOFF: "red",
    Phase.STOPPING: "dim",
    Phase.STOPPED: "dim",
    Phase.COMPLETED: "green",
    Phase.FAILED: "red",
}


def age(at_ms: int | None, now_ms: int) -> str:
    """How long ago `at_ms` was; empty when unknown. Clocks that differ give no negative age."""
    if not at_ms:
        return ""
    seconds = max(now_ms - at_ms, 0) / 1000
    return format_duration(seconds) if seconds >= 1 else "0s"


def copy_state(copy: "AllocationView") -> Cell:
    """A copy's state in one word: `ready`, `unready`, or its phase; `unknown` while its node says nothing."""
    if copy.silent_ms is not None:
        return Cell("unknown", "yellow")
    if copy.phase is Phase.RUNNING:
        return Cell("ready", "green") if copy.is_ready else Cell("unready", "yellow")
    return Cell(copy.phase.value, PHASE_STYLES[copy.phase])


def copy_reason(copy: "AllocationView", now_ms: int) -> str:
    """Why a copy is where it is; with the time of the next try while it waits for one."""
    parts = [clean(copy.reason)] if copy.reason else []
    if copy.silent_ms is not None:
        silent = format_duration(round(copy.silent_ms / 1000))
        last = ("ready" if copy.is_ready else "unready") if copy.phase is Phase.RUNNING else copy.phase.value
        parts.append(f"{clean(copy.node_name)} has not answered for {silent}, it was {last} then")
    if copy.phase is Phase.PREPARING and copy.progress is not None:
        done, total = copy.progress.current, copy.progress.total
        parts.append(clean(copy.progress.step) + (f" {done * 100 // total} %" if total else ""))
    if copy.phase is Phase.BACKOFF and copy.next_start_at_ms:
        parts.append(f"next try in {format_duration(max(copy.next_start_at_ms - now_ms, 0) / 1000)}")
    return ", ".join(parts)


def service_state(service: "ServiceView") -> Cell:
    """A service's state in one word."""
    if service.is_stopped:
        return Cell("stopped", "dim")
    if service.rollout.state is RolloutState.FAILED:
        return Cell("failed", "red")
    if service.rollout.is_paused or service.rollout.state is RolloutState.AWAITING:
        return Cell("paused" if service.rollout.is_paused else "awaiting", "yellow")
    if service.blocked:
        return Cell("waiting", "yellow")
    if service.rollout.state is RolloutState.PROGRESSING:
        return Cell("updating", "cyan")
    if service.is_job:
        is_over = all(copy.phase is Phase.COMPLETED for copy in current_copies(service))
        word = "completed" if is_over else "running"
        return Cell(word if service.schedule is None else "scheduled", "green")
    if service.ready >= service.replicas:
        return Cell("healthy", "green")
    return Cell("degraded", "yellow") if service.ready else Cell("down", "red")


def route_text(route: "RouteSpec") -> str:
    """A route as people write it: `example.com/api`, `*/` for any domain."""
    return f"{route.domain or '*'}{route.path if route.path != '/' or route.domain is None else ''}"


def services_table(services: Sequence["ServiceView"], now_ms: int, console: "Console") -> None:
    """NAME RUNTIME READY REV STATE ROUTES AGE, with a line of why below each that is not well."""
    columns = (
        Column("NAME", shrinks_to=14),
        Column("RUNTIME"),
        Column("READY", is_number=True),
        Column("REV", is_number=True),
        Column("STATE"),
        Column("ROUTES", shrinks_to=10),
        Column("AGE", is_number=True),
    )
    rows: list[list[Cell | str]] = [
        [
            display_name(service.id),
            service.runtime.value,
            f"{service.ready}/{service.replicas}",
            str(service.revision),
            service_state(service),
            ", ".join(route_text(route) for route in service.routes),
            age(service.updated_at_ms, now_ms),
        ]
        for service in services
    ]
    console.table(columns, rows)
    for service in services:
        for line in why_lines(service, now_ms):
            console.line(cut(line, console.width), "yellow")


def why_lines(service: "ServiceView", now_ms: int) -> list[str]:
    """Why a service is not well, a few lines; none when it is."""
    if service.is_stopped:
        return []
    name = display_name(service.id)
    lines = []
    if service.rollout.state is RolloutState.FAILED:
        lines.append(f"! {name}: revision {service.revision} failed: {clean(service.rollout.message)}")
    if service.rollout.is_paused:
        lines.append(f"! {name}: the rollout of revision {service.revision} is paused; `orca resume {name}` goes on")
    elif service.rollout.message and (service.rollout.state is RolloutState.AWAITING or service.rollout.is_way_back):
        lines.append(f"! {name}: {clean(service.rollout.message)}")
    if service.blocked:
        lines.append(f"! {name}: {clean(service.blocked)}")
    for copy in current_copies(service):
        is_well = copy.is_ready or copy.phase is Phase.COMPLETED or (service.is_job and copy.phase is Phase.RUNNING)
        if not is_well:
            reason = copy_reason(copy, now_ms)
            lines.append(f"! {slot_name(copy)} {copy_state(copy).text}" + (f": {reason}" if reason else ""))
    hidden = len(lines) - WHY_LINES_MAX
    return lines if hidden <= 0 else [*lines[:WHY_LINES_MAX], f"  … and {hidden} more, see orca ps {name}"]


def status(reply: "StatusReply", console: "Console") -> None:
    """The cluster line, the services and the nodes."""
    now_ms = reply.observation.at_ms
    names = {node.facts.id: node.facts.name for node in reply.nodes}
    leader = "no leader" if reply.leader is None else f"leader {names.get(reply.leader, reply.leader)}"
    observer = names.get(reply.observation.observer, reply.observation.observer)
    nodes = f"{len(reply.nodes)} node{'' if len(reply.nodes) == 1 else 's'}"
    text = f"cluster {reply.cluster} · {nodes} · {leader} · seen by {observer}, {freshness(reply.observation)}"
    is_doubtful = reply.leader is None or reply.observation.age_ms > STALE_MS
    console.line(cut(clean(text), console.width), "yellow" if is_doubtful else "bold")
    console.line()
    if reply.services:
        services_table(reply.services, now_ms, console)
        for line in holding_lines(reply):
            console.line(cut(line, console.width), "dim")
    else:
        console.line("no services; try: orca deploy service.toml")
    for line in lock_lines(reply.locks, now_ms):
        console.line(cut(line, console.width), "yellow")
    console.line()
    nodes_table(reply.nodes, now_ms, console)


def holding_lines(reply: "StatusReply") -> list[str]:
    """Which copy of each singleton may run, and under which number."""
    return [
        f"{display_name(one.id)}: lease {one.lease.fence} is held by {one.lease.allocation} on "
        f"{clean(one.lease.node_name or one.lease.node)}"
        for one in reply.services
        if one.lease is not None
    ]


def lock_lines(locks: Sequence["LockView"], now_ms: int) -> list[str]:
    """Who holds back deploys."""
    lines = []
    for one in locks:
        why = f" ({clean(one.note)})" if one.note else ""
        end = "" if one.expires_at_ms is None else f", ends in {age(now_ms, one.expires_at_ms)}"
        held = f"locked by {clean(one.holder)} since {age(one.since_ms, now_ms)} ago" + why + end
        lines.append(f"! deploys to project {clean(one.project)} are {held}")
    return lines


def freshness(observation: "Observation") -> str:
    """How old an answer may be, in words."""
    return "now" if observation.age_ms < 1000 else f"{format_duration(observation.age_ms / 1000)} old"


def nodes_table(nodes: Sequence["NodeView"], now_ms: int, console: "Console") -> None:
    """NODE ROLE COPIES CPU MEMORY RUNTIMES INGRESS AGE, with a line below each that refuses work."""
    columns = (
        Column("NODE", shrinks_to=10),
        Column("ROLE"),
        Column("COPIES", is_number=True),
        Column("CPU", is_number=True),
        Column("MEMORY", is_number=True),
        Column("RUNTIMES", shrinks_to=8),
        Column("INGRESS", shrinks_to=8),
        Column("AGE", is_number=True),
    )
    rows: list[list[Cell | str]] = []
    for node in nodes:
        runtimes = ", ".join(one.kind.value for one in node.facts.runtimes if one.is_available)
        rows.append(
            [
                node.facts.name,
                Cell("leader", "green") if node.is_leader else "",
                str(node.allocations),
                format_cpu(node.facts.cpu_milli),
                format_bytes(node.facts.memory_bytes),
                runtimes,
                ", ".join(map(_door, node.ingress)),
                age(node.started_at_ms, now_ms),
            ]
        )
    console.table(columns, rows)
    for node in nodes:
        notes = [f"{one.kind.value}: {one.reason}" for one in node.facts.runtimes if not one.is_available]
        notes += [] if node.facts.accepts_work else [f"takes no work: {node.facts.refusal}"]
        notes += [ingress.note for ingress in node.ingress if ingress.note]
        for note in notes:
            console.line(cut(f"! {node.facts.name} {clean(note)}", console.width), "dim")


def _door(ingress: "IngressView") -> str:
    return f":{ingress.port}" if ingress.scheme == "http" else f":{ingress.port} {ingress.scheme}"


def copies(found: "CopyList", console: "Console") -> None:
    """ID SERVICE SLOT REV NODE STATE RESTARTS AGE ENDPOINT FENCE REASON; NODE where there are several.

    Reasons that would be cut stand whole in lines of their own below the table.
    """
    now_ms = found.observation.at_ms
    columns = (
        Column("ID"),
        Column("SERVICE", shrinks_to=8),
        Column("SLOT", is_number=True),
        Column("REV", is_number=True),
        Column("NODE", shrinks_to=6),
        Column("STATE"),
        Column("RESTARTS", is_number=True),
        Column("AGE", is_number=True),
        Column("ENDPOINT", shrinks_to=12),
        Column("FENCE", is_number=True),
        Column("REASON"),
    )
    has_several = len({copy.node for copy in found.allocations}) > 1
    reasons = [(copy, copy_reason(copy, now_ms)) for copy in found.allocations]
    rows: list[list[Cell | str]] = []
    for copy, reason in reasons:
        is_leaving = copy.desired is DesiredStatus.STOPPED
        rows.append(
            [
                Cell(copy.id, "dim" if is_leaving else ""),
                display_name(copy.service),
                str(copy.slot + 1),
                str(copy.revision),
                clean(copy.node_name or copy.node) if has_several else "",
                copy_state(copy),
                str(copy.restarts or ""),
                age(copy.started_at_ms or copy.created_at_ms, now_ms),
                ", ".join(f"{end.host}:{end.host_port}" for end in copy.endpoints[:1]),
                str(copy.fence or ""),
                reason,
            ]
        )
    if rows and fits(columns, rows, console.width):
        console.table(columns, rows)
    elif rows:
        console.table(columns[:-1], [row[:-1] for row in rows])
        for copy, reason in reasons:
            for line in wrap(f"! {slot_name(copy)} {reason}", console.width) if reason else ():
                console.line(line, "yellow")
    else:
        console.line("no copies run")
    if found.hidden:
        console.note(f"{found.hidden} that ended are not shown; see --all", "dim")


def stats(reply: "StatsReply", console: "Console") -> None:
    """COPY CPU MEMORY LIMIT IN OUT PIDS PROBLEM."""
    columns = (
        Column("COPY", shrinks_to=12),
        Column("CPU", is_number=True),
        Column("MEMORY", is_number=True),
        Column("LIMIT", is_number=True),
        Column("IN", is_number=True),
        Column("OUT", is_number=True),
        Column("PIDS", is_number=True),
        Column("PROBLEM", shrinks_to=12),
    )
    rows: list[list[Cell | str]] = [
        [display_name(one.service) + f".{one.slot + 1}", *[""] * 6, Cell(one.problem, "yellow")]
        if one.problem
        else [
            display_name(one.service) + f".{one.slot + 1}",
            format_cpu(one.cpu_milli),
            format_bytes(one.memory_bytes),
            format_bytes(one.memory_bytes_max) if one.memory_bytes_max else "",
            format_bytes(one.received_bytes),
            format_bytes(one.sent_bytes),
            str(one.processes or ""),
            "",
        ]
        for one in reply.stats
    ]
    if rows:
        console.table(columns, rows)
    else:
        console.line("no copies run")


def history(reply: "HistoryReply", console: "Console") -> None:
    """REV AGE COPIES WORKLOAD CAUSE CHANGED; the current revision is marked."""
    now_ms = reply.observation.at_ms
    columns = (
        Column("REV", is_number=True),
        Column("AGE", is_number=True),
        Column("COPIES", is_number=True),
        Column("WORKLOAD", shrinks_to=16),
        Column("CAUSE", shrinks_to=12),
        Column("CHANGED", shrinks_to=12),
    )
    rows: list[list[Cell | str]] = [
        [
            Cell(f"{'* ' if one.is_current else ''}{one.revision}", "green" if one.is_current else ""),
            age(one.created_at_ms, now_ms),
            str(one.replicas),
            one.workload,
            one.cause,
            ", ".join(change.key for change in one.fields),
        ]
        for one in reply.revisions
    ]
    console.table(columns, rows)


def event_line(event: "NodeEvent", width: int) -> tuple[str, str]:
    """One event as text of at most `width` columns and its style; a longer message is cut only on a terminal."""
    styles = {Severity.INFO: "", Severity.WARNING: "yellow", Severity.ERROR: "red"}
    subject = display_name(event.service) if event.service else event.node
    text = f"{clock_text(event.at_ms)}  {subject:<14}  {clean(event.message)}"
    return (cut(text, width) if width else text), styles[event.severity]


def silence(one: "NodeSilence") -> str:
    """A node that does not answer, in a sentence."""
    known = "" if one.age_ms is None else f"; it was last heard of {format_duration(round(one.age_ms / 1000))} ago"
    return clean(f"{one.name} ({one.node}) does not answer: {one.reason}{known}")


def clock_text(at_ms: int) -> str:
    """Local date and time of a record, for people: `11-23 22:14:03`."""
    import time

    return time.strftime("%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def versions(found: "Versions", console: "Console") -> None:
    """Two lines: ours and the node's."""
    console.line(f"orca {found.client}")
    if found.problem:
        console.line(f"node: {clean(found.problem)}", "yellow")
    else:
        console.line(f"node {found.node} ({clean(found.node_name)}, {found.address})")
