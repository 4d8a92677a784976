"""The reconciler's rules, one story each."""

import msgspec
import pytest

from node.reconciler.events import (
    Action,
    ActionEnded,
    AssignmentsChanged,
    HealthVerdict,
    InstancesListed,
    StatusChanged,
)
from node.runtime.base import InstanceState
from orca.config import ReconcilerConfig
from orca.model.allocation import Allocation, DesiredStatus, Phase
from orca.model.event import EventKind
from orca.model.ids import AllocationId
from orca.model.spec import RestartPolicy
from tests.node.reconciler.model_world import KIND, Thing, World, make_assignment

A = AllocationId("a")
B = AllocationId("b")


def running_world(policy: RestartPolicy = RestartPolicy.ALWAYS, attempts_max: int | None = None) -> World:
    """One copy that runs and serves."""
    world = World()
    world.assign(make_assignment("a", policy, attempts_max=attempts_max))
    world.settle()
    world.verdict(A, HealthVerdict.READY)
    return world


def stop(world: World, name: AllocationId) -> None:
    allocation: Allocation = msgspec.structs.replace(world.wanted[name].allocation, desired=DesiredStatus.STOPPED)
    world.assign(msgspec.structs.replace(world.wanted[name], allocation=allocation))


def deliver_all(world: World) -> None:
    while world.words:
        world.deliver()


def kinds(world: World) -> list[EventKind]:
    return [one.kind for one in world.happened]


def test_nothing_is_done_before_the_engine_has_listed_what_there_is() -> None:
    world = World()
    world.assign(make_assignment("a"))
    assert not world.in_flight
    world.come_up()
    assert not world.in_flight
    world.answer_list()
    assert world.in_flight[A].action is Action.PREPARE


def test_a_copy_goes_through_prepare_and_launch_and_is_probed() -> None:
    world = World()
    world.come_up()
    world.answer_list()
    world.assign(make_assignment("a"))
    phases = [world.statuses[A].phase]
    world.end_action(A)
    phases.append(world.statuses[A].phase)
    world.end_action(A)
    phases.append(world.statuses[A].phase)
    assert phases == [Phase.PREPARING, Phase.STARTING, Phase.RUNNING]
    assert world.probes == {A}
    assert not world.statuses[A].is_ready
    world.verdict(A, HealthVerdict.READY)
    assert world.statuses[A].is_ready


def test_a_running_copy_of_an_earlier_agent_is_kept_and_counts_as_one_that_served() -> None:
    """Else an outdated copy that serves everybody would look, after a restart, like one that never did."""
    world = World()
    world.things[A] = Thing()
    world.start(A)
    world.words.clear()
    world.assign(make_assignment("a"))
    world.settle()
    assert not world.launches
    assert world.statuses[A].phase is Phase.RUNNING
    assert world.statuses[A].ready_since_ms is not None
    assert not world.statuses[A].is_ready
    assert EventKind.ALLOCATION_ADOPTED in kinds(world)


def test_the_first_death_costs_nothing_and_the_next_ones_twice_as_much_each() -> None:
    world = running_world()
    waits = []
    for _ in range(12):
        world.exit(A, 1)
        died_at = world.now
        deliver_all(world)
        if not world.in_flight:
            assert world.statuses[A].phase is Phase.BACKOFF
            world.tick()
        assert world.in_flight[A].action is Action.LAUNCH
        waits.append(world.now - died_at)
        world.settle()
    assert waits[0] == 0
    for wait, plain in zip(waits[1:], (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300), strict=True):
        assert wait == pytest.approx(plain, rel=0.11)
    assert world.statuses[A].restarts == 12


def test_a_long_run_makes_the_next_death_cheap_again() -> None:
    world = running_world()
    for _ in range(5):
        world.exit(A, 1)
        world.settle()
    world.now += 61
    world.exit(A, 1)
    deliver_all(world)
    assert world.in_flight[A].action is Action.LAUNCH, "it must be back at once"


def test_a_service_that_exits_with_0_is_started_again() -> None:
    world = running_world()
    world.exit(A, 0)
    world.settle()
    assert world.launches == [A, A]
    assert world.statuses[A].phase is Phase.RUNNING
    assert world.statuses[A].exit_code == 0


@pytest.mark.parametrize("policy", [RestartPolicy.NEVER, RestartPolicy.ON_FAILURE])
def test_a_job_that_ended_well_never_runs_again(policy: RestartPolicy) -> None:
    world = running_world(policy)
    world.exit(A, 0)
    world.settle()
    assert world.statuses[A].phase is Phase.COMPLETED
    del world.things[A]  # the engine may forget it
    world.restart()
    world.settle()
    assert world.statuses[A].phase is Phase.COMPLETED, "and the cluster is told so again"
    assert world.launches == [A]


def test_a_job_whose_end_was_seen_by_nobody_is_found_to_have_ended() -> None:
    world = running_world(RestartPolicy.NEVER)
    world.exit(A, 0)
    world.restart()
    world.settle()
    assert world.statuses[A].phase is Phase.COMPLETED
    assert world.launches == [A]


def test_a_job_that_ended_is_found_also_when_its_instance_was_listed_before_its_assignment_came() -> None:
    world = World()
    world.is_up = True
    world.things[A] = Thing(state=InstanceState.EXITED, exit_code=0)
    world.come_up()
    world.answer_list()
    world.assign(make_assignment("a", RestartPolicy.NEVER))
    world.settle()
    assert world.statuses[A].phase is Phase.COMPLETED
    assert not world.launches


def test_a_launch_that_failed_after_it_had_its_effect_does_not_run_a_job_twice() -> None:
    world = World()
    world.come_up()
    world.answer_list()
    world.assign(make_assignment("a", RestartPolicy.NEVER))
    world.end_action(A)
    world.end_action(A, error="no answer in time", is_late=True)
    world.exit(A, 0)
    world.words.clear()
    world.settle()
    assert world.statuses[A].phase is Phase.COMPLETED
    assert world.launches == [A]


def test_a_job_fails_after_its_last_attempt() -> None:
    world = running_world(RestartPolicy.ON_FAILURE, attempts_max=2)
    for _ in range(3):
        world.exit(A, 3)
        world.settle()
    assert world.statuses[A].phase is Phase.FAILED
    assert world.statuses[A].reason == "exit code 3"
    assert world.launches == [A, A, A]


def test_a_job_that_may_run_once_fails_when_its_instance_is_removed_by_hand() -> None:
    world = running_world(RestartPolicy.NEVER)
    del world.things[A]
    world.come_up()
    world.settle()
    assert world.statuses[A].phase is Phase.FAILED
    assert world.launches == [A]


def test_a_late_word_about_an_earlier_run_does_not_end_a_job() -> None:
    world = running_world(RestartPolicy.ON_FAILURE, attempts_max=1)
    world.exit(A, 1)
    world.settle()
    late = [word for word in world.past_words if type(word).__name__ == "InstanceExited"]
    world.words.extend(late)
    world.settle()
    assert world.statuses[A].phase is Phase.RUNNING
    assert world.launches == [A, A]


def test_a_copy_that_fails_its_liveness_probe_is_stopped_and_started_again() -> None:
    world = running_world()
    world.verdict(A, HealthVerdict.DEAD)
    assert not world.statuses[A].is_ready
    assert world.in_flight[A].action is Action.STOP
    assert world.probes == set()
    world.settle()
    assert world.launches == [A, A]
    assert world.statuses[A].phase is Phase.RUNNING
    assert world.statuses[A].restarts == 1


def test_a_job_that_was_ended_because_it_was_ill_is_no_success() -> None:
    world = running_world(RestartPolicy.NEVER)
    world.verdict(A, HealthVerdict.DEAD)
    world.exit(A, 0)
    world.settle()
    assert world.statuses[A].phase is Phase.FAILED


def test_a_copy_that_served_is_drained_before_it_is_stopped() -> None:
    world = running_world()
    stop(world, A)
    seen = []
    while world.in_flight:
        order = world.in_flight[A]
        seen.append((order.action, order.timeout_s))
        assert not world.statuses[A].is_ready
        world.end_action(A)
    assert [action for action, _ in seen] == [Action.DRAIN, Action.STOP, Action.REMOVE]
    assert world.statuses[A].phase is Phase.STOPPED
    assert not world.things


def test_a_copy_that_never_served_is_stopped_without_a_drain() -> None:
    world = World()
    world.assign(make_assignment("a"))
    world.settle()
    stop(world, A)
    assert world.in_flight[A].action is Action.STOP


def test_a_pull_that_nobody_needs_any_more_is_given_up() -> None:
    world = World()
    world.come_up()
    world.answer_list()
    world.assign(make_assignment("a"))
    stop(world, A)
    assert A in world.cancelled
    world.settle()
    assert world.statuses[A].phase is Phase.STOPPED
    assert not world.launches


def test_a_copy_whose_launch_was_given_up_is_looked_for_before_it_is_called_stopped() -> None:
    world = World()
    world.come_up()
    world.answer_list()
    world.assign(make_assignment("a"))
    world.end_action(A)
    stop(world, A)
    world.end_action(A, error="no answer in time", is_late=True)
    assert world.statuses[A].phase is Phase.STOPPING
    world.settle()
    assert not world.things, "it was running when its launch was given up"
    assert world.statuses[A].phase is Phase.STOPPED


def test_an_engine_that_does_not_answer_costs_no_try() -> None:
    world = running_world()
    world.go_down(kills=True)
    assert world.statuses[A].phase is Phase.RUNNING, "nobody knows otherwise"
    for _ in range(20):
        world.tick()
    world.come_up()
    world.settle()
    assert world.statuses[A].restarts == 1
    assert world.launches == [A, A]


def test_an_action_that_met_a_hung_engine_is_tried_again_once_the_engine_has_listed() -> None:
    world = World()
    world.come_up()
    world.answer_list()
    world.assign(make_assignment("a"))
    world.end_action(A)
    world.is_up = False
    world.end_action(A)
    assert world.statuses[A].restarts == 0
    world.settle()
    assert world.statuses[A].phase is Phase.RUNNING


def test_an_orphan_is_removed_only_on_the_word_of_a_state_that_was_read() -> None:
    world = World()
    world.things[A] = Thing()
    world.start(A)
    world.words.clear()
    world.come_up()
    world.answer_list()
    world.step(AssignmentsChanged(assignments=(), is_trusted=False))
    assert not world.in_flight
    assert world.things
    world.tell()
    world.settle()
    assert not world.things


def test_copies_are_not_taken_away_by_a_state_that_nobody_vouches_for() -> None:
    world = running_world()
    world.step(AssignmentsChanged(assignments=(), is_trusted=False))
    world.settle()
    assert world.statuses[A].is_ready
    assert world.things[A].state is InstanceState.RUNNING


def test_an_older_listing_does_not_overrule_what_was_learned_since() -> None:
    world = running_world()
    world.exit(A, 1)
    world.come_up()
    world.snapshot = world.listing()
    deliver_all(world)
    world.end_action(A)
    assert world.statuses[A].phase is Phase.RUNNING
    world.answer_list()
    assert world.statuses[A].phase is Phase.RUNNING, "the listing was taken before it ran again"
    assert world.statuses[A].restarts == 1


def test_an_end_that_was_heard_of_and_then_listed_counts_once() -> None:
    world = running_world()
    for _ in range(2):
        world.exit(A, 1)
        deliver_all(world)
        if not world.in_flight:
            break
        world.settle()
    assert world.statuses[A].phase is Phase.BACKOFF
    world.come_up()
    world.answer_list()
    assert world.statuses[A].restarts == 2


def test_a_copy_whose_end_is_heard_of_while_it_is_looked_for_is_looked_for_again() -> None:
    world = World()
    world.come_up()
    world.answer_list()
    world.assign(make_assignment("a"))
    world.end_action(A)
    world.affect(world.in_flight[A])
    world.exit(A, 1)
    started, exited = world.words
    world.words.clear()
    world.words.append(exited)
    world.deliver()
    world.end_action(A)
    world.words.append(exited)
    world.deliver()
    world.settle()
    assert world.statuses[A].phase is Phase.RUNNING
    assert type(started).__name__ == "InstanceStarted"


def test_a_launch_that_found_the_workload_ended_is_not_called_running() -> None:
    world = World()
    world.come_up()
    world.answer_list()
    world.assign(make_assignment("a"))
    world.end_action(A)
    world.affect(world.in_flight[A])
    world.exit(A, 1)
    world.words.clear()
    del world.in_flight[A]
    world.step(ActionEnded(allocation=A, action=Action.LAUNCH, has_ended=True))
    assert not world.probes
    assert world.statuses[A].phase is Phase.STARTING
    world.settle()
    assert world.statuses[A].phase is Phase.RUNNING
    assert world.launches == [A, A]


def test_a_copy_that_ended_by_itself_while_its_restart_failed_is_not_restarted_twice() -> None:
    world = running_world()
    world.verdict(A, HealthVerdict.DEAD)
    world.exit(A, 1)
    deliver_all(world)
    world.end_action(A, error="the engine refused")
    world.settle()
    assert world.launches == [A, A]
    assert world.statuses[A].phase is Phase.RUNNING


def test_a_listing_that_nobody_asked_for_changes_nothing() -> None:
    world = running_world()
    world.step(InstancesListed(kind=KIND, instances=()))
    assert world.statuses[A].is_ready


def test_no_more_copies_start_at_once_than_is_allowed_and_all_get_their_turn() -> None:
    world = World(config=ReconcilerConfig(starts_max=3))
    world.come_up()
    world.answer_list()
    for number in range(20):
        world.wanted[AllocationId(f"c{number}")] = make_assignment(f"c{number}")
    world.tell()
    assert len(world.in_flight) == 3
    world.settle()
    assert all(status.phase is Phase.RUNNING for status in world.statuses.values())


def test_what_waits_for_its_turn_is_not_started_when_the_engine_went_away_meanwhile() -> None:
    world = World(config=ReconcilerConfig(starts_max=1))
    world.come_up()
    world.answer_list()
    world.assign(make_assignment("a"))
    world.assign(make_assignment("b"))
    world.go_down(kills=False)
    world.end_action(A, error="refused")
    assert B not in world.in_flight
    world.settle()
    assert world.statuses[B].phase is Phase.RUNNING


def test_a_job_that_the_cluster_forgot_while_the_agent_was_away_is_forgotten_here_too() -> None:
    world = running_world(RestartPolicy.NEVER)
    world.exit(A, 0)
    world.settle()
    assert A in world.ended
    world.wanted.clear()
    world.restart()
    assert A not in world.ended
    world.settle()
    assert not world.things


def test_a_newer_revision_with_the_same_template_takes_the_copy_over_as_it_is() -> None:
    world = running_world()
    newer = msgspec.structs.replace(world.wanted[A].allocation, revision=2)
    world.assign(msgspec.structs.replace(world.wanted[A], allocation=newer))
    assert world.statuses[A].revision == 2
    assert world.statuses[A].is_ready
    assert not world.in_flight


def test_an_image_that_vanished_is_fetched_again_before_the_next_launch() -> None:
    world = running_world()
    world.exit(A, 1)
    deliver_all(world)
    world.remove(A)
    world.end_action(A, error="no such image")
    world.settle()
    assert world.statuses[A].phase is Phase.RUNNING
    assert world.runs == 2


def test_what_is_equal_is_not_reported_again() -> None:
    world = running_world()
    assert not world.step(AssignmentsChanged(assignments=tuple(world.wanted.values())))
    assert not [
        effect
        for effect in world.step(AssignmentsChanged(assignments=(make_assignment("a"),)))
        if isinstance(effect, StatusChanged)
    ]
