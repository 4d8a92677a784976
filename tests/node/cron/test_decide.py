"""Which runs are due: moments, missed ones, overlap, old runs."""

from datetime import UTC, datetime

import pytest

from node.cron.decide import GRACE_MS, LABEL, RUNS_KEPT, Decision, decide, orphans, wakes_at_ms
from orca.model.allocation import AllocationStatus
from orca.model.ids import AllocationId, ServiceId
from orca.model.spec import MissedRun, OverlapPolicy, ScheduleSpec
from orca.model.units import WallMs
from tests.consensus.intent import Cluster, make_spec

JOB = ServiceId("default/job")
HOUR_MS = 3_600_000
START_MS = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * 1000


class Scheduled(Cluster):
    """A cluster with a service that runs every hour; a run is over when it is stopped, as it never has copies."""

    def __init__(self, missed: MissedRun = MissedRun.SKIP, overlap: OverlapPolicy = OverlapPolicy.FORBID) -> None:
        super().__init__()
        self.statuses: dict[AllocationId, AllocationStatus] = {}
        self.at_ms = START_MS + 1
        self.schedule = ScheduleSpec(cron="0 * * * *", missed=missed, overlap=overlap)
        self.put(make_spec("job", schedule=self.schedule))

    def decide(self, hours: float) -> Decision:
        self.at_ms = START_MS + int(hours * HOUR_MS)
        return decide(self.state, self.statuses, self.record(JOB), WallMs(self.at_ms))

    def carry_out(self, hours: float, *, ends: bool = True) -> str:
        """The name of the run that is started, empty for none."""
        decision = self.decide(hours)
        for run in decision.removes:
            self.remove(run)
        if decision.start is None:
            return ""
        self.put(decision.start)
        if ends:
            self.stop(decision.start.id)
        return str(decision.start.name)


def test_a_run_is_due_at_its_moment_and_not_before() -> None:
    world = Scheduled()
    assert world.decide(0.999).start is None
    assert wakes_at_ms(world.record(JOB), WallMs(world.at_ms)) == START_MS + HOUR_MS
    start = world.decide(1).start
    assert start is not None
    assert (start.name, start.is_job, start.schedule) == ("job-202603010100", True, None)
    assert start.labels == {LABEL: "job"}


def test_each_moment_is_decided_once() -> None:
    world = Scheduled()
    assert world.carry_out(1) == "job-202603010100"
    assert [world.carry_out(hours) for hours in (1, 1.01, 1.5)] == ["", "", ""]
    assert world.carry_out(2) == "job-202603010200"
    assert world.index == 5, "two runs and their ends"


def test_the_service_itself_has_no_copies() -> None:
    assert Scheduled().record(JOB).replicas == 0


def test_what_was_missed_is_skipped_or_run_once() -> None:
    late = 5 + (GRACE_MS + 1) / HOUR_MS
    assert Scheduled().carry_out(late) == ""
    world = Scheduled(missed=MissedRun.RUN)
    assert world.carry_out(late) == "job-202603010500"
    assert world.carry_out(late) == ""


def test_moments_before_the_deploy_are_nobodys() -> None:
    world = Scheduled(missed=MissedRun.RUN)
    world.at_ms = START_MS + 3 * HOUR_MS
    world.put(make_spec("job", "job:2", schedule=world.schedule))
    assert world.carry_out(3.1) == ""
    assert world.carry_out(4) == "job-202603010400"


@pytest.mark.parametrize(
    ("overlap", "started", "left"),
    [
        (OverlapPolicy.FORBID, "", 1),
        (OverlapPolicy.ALLOW, "job-202603010200", 2),
        (OverlapPolicy.REPLACE, "job-202603010200", 1),
    ],
)
def test_an_earlier_run_holds_the_next_back_goes_on_beside_it_or_goes(
    overlap: OverlapPolicy, started: str, left: int
) -> None:
    world = Scheduled(overlap=overlap)
    world.carry_out(1, ends=False)
    assert world.carry_out(2, ends=False) == started
    assert len(world.state.services) - 1 == left


def test_a_suspended_schedule_starts_nothing() -> None:
    world = Scheduled()
    world.stop(JOB)
    assert world.carry_out(1) == ""
    assert wakes_at_ms(world.record(JOB), WallMs(world.at_ms)) is None
    world.start(JOB)
    assert world.carry_out(2) == "job-202603010200"


def test_of_the_runs_that_are_over_the_last_stay() -> None:
    world = Scheduled()
    for hours in range(1, RUNS_KEPT + 4):
        world.carry_out(hours)
    world.carry_out(RUNS_KEPT + 3.5)
    names = sorted(record.spec.name for record in world.state.services.values())
    assert names == ["job", *(f"job-20260301{hours:02d}00" for hours in range(4, RUNS_KEPT + 4))]


def test_the_runs_of_a_service_that_is_gone_go_too() -> None:
    world = Scheduled()
    world.carry_out(1)
    world.put(make_spec("other-202603010100", labels={LABEL: "nobody"}))
    assert orphans(world.state) == ()
    world.remove(JOB)
    assert orphans(world.state) == (ServiceId("default/job-202603010100"),)
