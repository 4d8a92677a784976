"""How the doctor's findings are shown."""

import io

import msgspec

from node.doctor.judge import find, outlook
from orca.cli.console import Console
from orca.cli.doctor import show
from orca.cli.text import width_of
from orca.model.doctor import DoctorReply, LinkKind, NodeExamination
from orca.model.ids import StateRevision
from orca.model.units import WallMs
from orca.model.view import Observation
from tests.node.doctor.test_judge import IDS, cluster, without


def shown(nodes: list[NodeExamination], **settings: bool) -> str:
    observation = Observation(observer=IDS[0], at_ms=WallMs(0), state_revision=StateRevision(1))
    reply = DoctorReply(observation=observation, nodes=tuple(nodes), findings=find(nodes), outlook=outlook(nodes))
    console = Console(out=io.StringIO(), err=io.StringIO(), environ={})
    show(reply, console, **settings)
    assert isinstance(console.out, io.StringIO)
    return console.out.getvalue()


def test_a_cluster_that_is_well_is_said_to_be_with_every_link_and_the_outlook() -> None:
    text = shown(cluster())
    assert "nothing is wrong" in text
    assert "any one of them may die" in text
    assert text.count("0.5 ms") == 3 * 2 * 3
    assert "node1 *" in text
    tables = text.partition("nothing is wrong")[0]
    assert all(width_of(line) <= 80 for line in tables.splitlines())


def test_what_is_wrong_is_told_with_the_line_that_mends_it() -> None:
    text = shown(cluster(n1=without(IDS[0], IDS[1], LinkKind.UDP)))
    assert "closed" in text
    assert "error: node1 does not reach node2 by gossip (UDP)" in text
    assert "mend: on node2: `iptables -I INPUT -p udp --dport 7946 -j ACCEPT`" in text


def test_a_node_without_a_report_is_shown_with_the_age_of_what_is_known() -> None:
    nodes = cluster()
    nodes[2] = msgspec.structs.replace(nodes[2], report=None, problem="no answer", heard_age_ms=90_000)
    assert "none, heard 1m30s ago" in shown(nodes)


def test_of_many_links_only_the_broken_ones_are_shown_unless_all_are_asked_for() -> None:
    many = [msgspec.structs.replace(one, name=f"{one.name}-{n}") for n in range(12) for one in cluster()]
    many[0] = cluster(n1=without(IDS[0], IDS[1], LinkKind.MESH))[0]
    assert "72 pairs of nodes; those with a broken link:" in shown(many)
    assert "closed" in shown(many)
    assert shown(many).count(" ms") < 10
    assert shown(many, shows_links=True).count("0.5 ms") > 100
