"""What is found in reports: each fault by name, with what mends it, and nothing where nothing is wrong."""

from typing import Any

import msgspec
import pytest

from node.doctor.judge import find, outlook
from orca.model.doctor import DiskView, Finding, LinkKind, LinkView, NodeExamination, NodeReport
from orca.model.event import Severity
from orca.model.ids import NodeId
from orca.model.node import RuntimeState
from orca.model.spec import RuntimeKind
from orca.model.units import WallMs

NOW, DAY_MS = WallMs(1_000_000_000_000), 86_400_000
IDS = [NodeId(f"n-{number}") for number in (1, 2, 3)]
PORTS = {LinkKind.UDP: 7946, LinkKind.TCP: 7946, LinkKind.MESH: 6881}


def link(peer: NodeId, kind: LinkKind, problem: str = "") -> LinkView:
    rtt_ms = None if problem else 0.5
    return LinkView(peer=peer, kind=kind, address=f"10.0.0.9:{PORTS[kind]}", rtt_ms=rtt_ms, problem=problem)


def report(node: NodeId, **fields: Any) -> NodeReport:
    plain: dict[str, Any] = {
        "node": node,
        "name": node.replace("n-", "node"),
        "version": "0.1.0",
        "at_ms": NOW,
        "links": tuple(link(peer, kind) for peer in IDS if peer != node for kind in LinkKind),
        "runtimes": (RuntimeState(kind=RuntimeKind.DOCKER, is_available=True),),
        "disks": (DiskView(path="/var/lib/orca", free_bytes=50 * 2**30, total_bytes=100 * 2**30),),
        "store_bytes": 1,
        "store_bytes_max": 100,
        "certificate_starts_at_ms": WallMs(NOW - 10 * DAY_MS),
        "certificate_ends_at_ms": WallMs(NOW + 80 * DAY_MS),
    }
    return NodeReport(**{**plain, **fields})


def cluster(**changed: dict[str, Any]) -> list[NodeExamination]:
    """Three nodes that are well, but for the fields of the reports that are given: `n1={...}`."""
    made = []
    for number, node in enumerate(IDS, 1):
        one = report(node, **changed.get(f"n{number}", {}))
        made.append(NodeExamination(node=node, name=one.name, report=one, is_voter=True))
    return made


def only(nodes: list[NodeExamination]) -> Finding:
    (finding,) = find(nodes)
    return finding


def without(node: NodeId, peer: NodeId, kind: LinkKind, problem: str = "no answer within 2 s") -> dict[str, Any]:
    """The links of `node` with one of them broken."""
    whole = report(node).links
    return {"links": tuple(link(peer, kind, problem) if (one.peer, one.kind) == (peer, kind) else one for one in whole)}


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert find(cluster()) == ()


def test_a_link_that_is_open_one_way_only_is_told_with_the_line_that_opens_the_other() -> None:
    found = only(cluster(n1=without(IDS[0], IDS[1], LinkKind.UDP)))
    assert (found.severity, found.subject) == (Severity.ERROR, "node1")
    assert "does not reach node2 by gossip (UDP)" in found.message
    assert "one way only" in found.message
    assert found.mend.startswith("on node2: `iptables -I INPUT -p udp --dport 7946 -j ACCEPT`")


def test_a_link_that_is_closed_both_ways_is_told_by_both_ends() -> None:
    nodes = cluster(n1=without(IDS[0], IDS[1], LinkKind.MESH), n2=without(IDS[1], IDS[0], LinkKind.MESH))
    assert [(one.subject, "not at all" in one.message) for one in find(nodes)] == [("node1", True), ("node2", True)]
    assert "-p tcp --dport 6881" in find(nodes)[0].mend


def test_a_certificate_that_is_not_taken_is_no_matter_of_firewalls() -> None:
    nodes = cluster(n1=without(IDS[0], IDS[1], LinkKind.MESH, "its certificate is not listed"))
    assert "iptables" not in only(nodes).mend


def test_a_node_without_a_report_is_told_once_with_who_reaches_it_and_how_long_ago_it_was_heard() -> None:
    nodes = cluster()
    gone = NodeExamination(node=IDS[2], name="node3", problem="no answer within 5 s", heard_age_ms=90_000)
    broken = {"links": tuple(link(one.peer, one.kind, "x") for one in report(IDS[0]).links if one.peer == IDS[2])}
    found = only([cluster(n1=broken)[0], nodes[1], gone])
    assert "no answer within 5 s" in found.message
    assert "last heard 1m30s ago" in found.message
    assert found.mend.startswith("node2 can reach it")


@pytest.mark.parametrize(
    ("offset_ms", "error_ms", "severity"),
    [(1_500, 0, None), (2_500, 0, Severity.WARNING), (2_500, 1_000, None), (-90_000, 5, Severity.ERROR)],
)
def test_a_clock_that_is_off_is_found_beyond_what_the_measurement_may_err(
    offset_ms: int, error_ms: int, severity: Severity | None
) -> None:
    nodes = cluster()
    nodes[1] = msgspec.structs.replace(nodes[1], clock_offset_ms=offset_ms, clock_error_ms=error_ms)
    found = find(nodes)
    assert [one.severity for one in found] == ([] if severity is None else [severity])
    assert all(one.subject == "node2" and "timedatectl" in one.mend for one in found)


def test_the_observer_is_the_one_whose_clock_is_off_when_all_others_agree() -> None:
    nodes = cluster()
    nodes[1:] = [msgspec.structs.replace(one, clock_offset_ms=-30_000) for one in nodes[1:]]
    assert "its clock is 30s ahead" in only(nodes).message
    assert only(nodes).subject == "node1"


@pytest.mark.parametrize(
    ("fields", "severity", "words"),
    [
        ({"runtimes": (RuntimeState(kind=RuntimeKind.DOCKER, is_available=False, reason="refused"),)},
         Severity.WARNING, "docker is not available: refused"),
        ({"runtimes": (RuntimeState(kind=RuntimeKind.WASM, is_available=False, reason="no module"),)},
         Severity.WARNING, "wasm is not available: no module"),
        ({"disks": (DiskView(path="/d", free_bytes=5, total_bytes=100),)}, Severity.WARNING, "5% of the disk of /d"),
        ({"disks": (DiskView(path="/d", free_bytes=1, total_bytes=100),)}, Severity.ERROR, "1% of the disk of /d"),
        ({"store_bytes": 80}, Severity.WARNING, "80% of its store"),
        ({"certificate_ends_at_ms": WallMs(NOW + DAY_MS)}, Severity.WARNING, "ends in 1d and was not renewed"),
        ({"certificate_ends_at_ms": WallMs(NOW - 60_000)}, Severity.ERROR, "its certificate ended 1m ago"),
        ({"is_gossip_sealed": False}, Severity.WARNING, "gossip is not encrypted"),
        ({"version": "0.0.9"}, Severity.INFO, "older release than the newest in the cluster, 0.1.0"),
    ],
)  # fmt: skip
def test_each_trouble_of_a_node_is_told_with_what_mends_it(
    fields: dict[str, Any], severity: Severity, words: str
) -> None:
    found = only(cluster(n2=fields))
    assert (found.severity, found.subject) == (severity, "node2")
    assert words in found.message
    assert found.mend


def test_releases_are_compared_as_numbers() -> None:
    assert (
        "0.10.0" in only(cluster(n1={"version": "0.9.0"}, n2={"version": "0.10.0"}, n3={"version": "0.10.0"})).message
    )


def test_the_worst_comes_first() -> None:
    nodes = cluster(n1={"version": "0.0.9"}, n2={"store_bytes": 80}, n3={"certificate_ends_at_ms": WallMs(NOW - 1)})
    assert [one.severity for one in find(nodes)] == [Severity.ERROR, Severity.WARNING, Severity.INFO]


def voters(living: int, dead: int, others: int = 0) -> list[NodeExamination]:
    made = [NodeExamination(node=NodeId(f"n-{n}"), name=f"node{n}", is_voter=True) for n in range(living + dead)]
    made[living:] = [msgspec.structs.replace(one, problem="dead") for one in made[living:]]
    return made + [NodeExamination(node=NodeId(f"w-{n}"), name=f"other{n}") for n in range(others)]


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        (voters(1, 0), "when it dies, no deploy, scale or move is possible until it is back. Join 2"),
        (voters(1, 0, others=1), "Join 1 more node and"),
        (voters(3, 0), "3 nodes vote and 2 are needed: any one of them may die"),
        (voters(5, 0), "any 2 of them may die"),
        (voters(2, 1), "2 of 3 voters answer and all of them are needed"),
        (voters(1, 2), "Now 1 of 3 voters answer and 2 are needed: nothing can be decided"),
    ],
)  # fmt: skip
def test_the_outlook_says_what_happens_when_a_node_dies(nodes: list[NodeExamination], words: str) -> None:
    assert words in " ".join(outlook(nodes))
