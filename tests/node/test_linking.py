"""What belongs on a node is told when it is different, and only then."""

from consensus.state.commands import CommitPlan
from node.linking import OwnCopies
from orca.model.allocation import Allocation
from orca.model.ids import AllocationId, NodeId, ServiceId, SpecRevision, StateRevision
from orca.model.units import WallMs
from tests.consensus.intent import Cluster, make_spec, template

HERE, THERE = NodeId("n-a"), NodeId("n-b")


def place(cluster: Cluster, name: str, node: NodeId) -> None:
    spec = make_spec()
    copy = Allocation(
        id=AllocationId(name),
        service=ServiceId("default/web"),
        revision=SpecRevision(1),
        template=template(spec),
        slot=0,
        node=node,
    )
    plan = CommitPlan(base=StateRevision(cluster.state.revision), at_ms=WallMs(1), placements=(copy,))
    assert not cluster.apply(plan).error


def test_a_node_hears_of_its_own_copies_when_they_are_others_and_not_of_those_of_other_nodes() -> None:
    cluster, own = Cluster(), OwnCopies(HERE)
    first = own.changed(cluster.state)
    assert first is not None, "that there are none is told once, too"
    assert (first.assignments, first.is_trusted) == ((), False)
    cluster.put(make_spec())
    trusted = own.changed(cluster.state)
    assert trusted is not None, "now there is a state to act on"
    assert trusted.is_trusted
    place(cluster, "there", THERE)
    assert own.changed(cluster.state) is None
    place(cluster, "here", HERE)
    changed = own.changed(cluster.state)
    assert changed is not None
    assert [one.allocation.id for one in changed.assignments] == ["here"]
    assert changed.assignments[0].spec == make_spec()
    assert own.changed(cluster.state) is None
    plan = CommitPlan(base=StateRevision(cluster.state.revision), at_ms=WallMs(2), stops=(AllocationId("here"),))
    assert not cluster.apply(plan).error
    assert own.changed(cluster.state) is not None, "it is to stop"
