"""What people read about commands: each once, refusals never."""

from consensus.replica import AppliedCommand
from consensus.state.commands import Command, CommitPlan, RolloutUpdate, StopService
from node.history import Happening, happenings
from orca.model.event import EventKind, Severity
from orca.model.ids import LogIndex, RequestId, ServiceId
from orca.model.units import WallMs
from orca.model.view import RolloutState
from tests.consensus.intent import Cluster, make_spec
from tests.consensus.scheduler.fake_world import World, make_node

WEB = ServiceId("default/web")


def told(cluster: Cluster, command: Command) -> list[Happening]:
    outcome = cluster.apply(command)
    applied = AppliedCommand(index=LogIndex(cluster.index), command=command, outcome=outcome)
    return happenings(cluster.state, applied)


def stop(request: str = "x") -> StopService:
    return StopService(request_id=RequestId(request), at_ms=WallMs(0), actor="ann", service=WEB)


def test_a_change_is_told_with_who_made_it() -> None:
    cluster = Cluster()
    cluster.put(make_spec())
    (found,) = told(cluster, stop())
    assert (found.kind, found.message) == (EventKind.SERVICE_STOPPED, "web was told to stop by ann, revision 1")


def test_refusals_repetitions_and_changes_of_nothing_are_not_told() -> None:
    cluster = Cluster()
    assert not told(cluster, stop("refused"))
    cluster.put(make_spec())
    assert told(cluster, stop("x"))
    assert not told(cluster, stop("x")), "the same request again"
    assert not told(cluster, stop("y")), "it is stopped already"


def test_a_plan_is_told_by_its_placements_and_the_ends_of_rollouts() -> None:
    world = World(nodes=(make_node("a"),))
    world.put(make_spec())
    world.think()
    assert world.plan is not None
    assert world.plan.command is not None
    applied = AppliedCommand(
        index=LogIndex(world.index),
        command=world.plan.command,
        outcome=world.apply(CommitPlan(base=world.state.revision, at_ms=WallMs(0))),
    )
    applied = AppliedCommand(index=LogIndex(world.index), command=applied.command, outcome=applied.outcome)
    assert [one.message for one in happenings(world.state, applied)] == ["web.1 was placed on n-a"]
    for state, severity, message in (
        (RolloutState.COMPLETED, Severity.INFO, "web is as wanted (revision 1)"),
        (RolloutState.FAILED, Severity.ERROR, "web: too late (revision 1)"),
    ):
        update = RolloutUpdate(
            service=WEB,
            revision=world.record().current.revision,
            state=state,
            healthy=1,
            deadline_at_ms=WallMs(0),
            message="too late",
        )
        (found,) = told(world, CommitPlan(base=world.state.revision, at_ms=WallMs(0), rollouts=(update,)))
        assert (found.severity, found.message) == (severity, message)
