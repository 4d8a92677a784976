"""Any deploys, on nodes that do well or badly: the promises hold at every plan, and it comes to rest."""

from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from orca.model.allocation import TERMINAL_PHASES, Allocation, DesiredStatus, Phase
from orca.model.ids import AllocationId
from orca.model.spec import (
    DeployStrategy,
    HttpCheck,
    MountSpec,
    PortSpec,
    ProbeSpec,
    Resources,
    RestartPolicy,
    RestartSpec,
    ServiceSpec,
    UpdateOrder,
)
from orca.model.units import MilliCpu
from orca.model.view import RolloutState
from tests.consensus.intent import make_spec
from tests.consensus.scheduler.fake_world import World

WEB = "default/web"
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "probed": {"readiness": ProbeSpec(check=HttpCheck(path="/"))},
    "published": {"ports": (PortSpec(port=80, host_port=80),)},
    "writes": {"mounts": (MountSpec(target="/d", source="d"),)},
    "big": {"resources": Resources(cpu_milli=MilliCpu(700))},
    "job": {"restart": RestartSpec(policy=RestartPolicy.ON_FAILURE)},
}
COMMANDS = ("scale", "stop", "start", "restart", "rollback", "promote", "pause", "resume", "remove")
DEPLOYS = st.fixed_dictionaries(
    {
        "order": st.sampled_from(UpdateOrder),
        "max_surge": st.integers(0, 2),
        "max_unavailable": st.integers(0, 2),
        "min_healthy_time_s": st.sampled_from([0.0, 0.0015, 3.0]),
        "deadline_s": st.sampled_from([5.0, 120.0]),
        "strategy": st.sampled_from(DeployStrategy),
        "canary_copies": st.integers(1, 3),
        "auto_promote_s": st.sampled_from([None, None, 0.0, 7.0]),
        "keep_old_s": st.sampled_from([0.0, 9.0]),
        "auto_rollback": st.booleans(),
    }
)


class Planning(RuleBasedStateMachine):
    """See `World.think` for what is held at every plan. `web:0` never works."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.bad_images.add("web:0")

    @initialize(image=st.integers(0, 2), replicas=st.integers(1, 3))
    def begin(self, image: int, replicas: int) -> None:
        self.world.put(make_spec(image=f"web:{image}", replicas=replicas))

    @rule(image=st.integers(0, 3), replicas=st.integers(0, 4), kind=st.sampled_from(sorted(KINDS)), deploy=DEPLOYS)
    def deploy(self, image: int, replicas: int, kind: str, deploy: dict[str, Any]) -> None:
        if kind in {"published", "writes", "job"}:  # a node refuses these: two revisions cannot run side by side
            deploy = deploy | {"strategy": DeployStrategy.ROLLING}
        if deploy["strategy"] is not DeployStrategy.ROLLING:
            deploy = deploy | {"order": UpdateOrder.START_FIRST}
        self.world.put(make_spec(image=f"web:{image}", replicas=replicas, deploy=deploy, **KINDS[kind]))

    @precondition(lambda self: WEB in self.world.state.services)
    @rule(data=st.data(), what=st.sampled_from(COMMANDS))
    def command(self, data: st.DataObject, what: str) -> None:
        world = self.world
        match what:
            case "scale":
                world.scale(WEB, data.draw(st.integers(0, 4)))
            case "rollback":
                revisions = [int(one.revision) for one in world.record().revisions]
                world.roll_back(WEB, data.draw(st.sampled_from(revisions)))
            case "stop":
                world.stop(WEB)
            case "start":
                world.start(WEB)
            case "restart":
                world.restart(WEB)
            case "promote":
                world.promote(WEB)
            case "pause":
                world.pause(WEB)
            case "resume":
                world.resume(WEB)
            case _:
                world.remove(WEB)

    @rule()
    def plan(self) -> None:
        self.world.think()

    @rule(seconds=st.sampled_from([1, 4, 200]))
    def time_passes(self, seconds: int) -> None:
        self.world.at_ms += seconds * 1000

    @rule(times=st.integers(1, 3))
    def nodes_obey(self, times: int) -> None:
        for _ in range(times):
            self.world.think()
            self.world.obey()

    @precondition(lambda self: self.world.state.allocations)
    @rule(data=st.data(), phase=st.sampled_from([*Phase, Phase.RUNNING, Phase.RUNNING]), ready=st.booleans())
    def a_copy_reports(self, data: st.DataObject, phase: Phase, ready: bool) -> None:
        one: AllocationId = data.draw(st.sampled_from(sorted(self.world.state.allocations)))
        allocation = self.world.state.allocations[one]
        if self._may_report(allocation, phase):
            self.world.report(one, phase, is_ready=ready and phase is Phase.RUNNING)

    def _may_report(self, allocation: Allocation, phase: Phase) -> bool:
        """What an honest node could say."""
        if self.world.phase(allocation) in TERMINAL_PHASES:
            return False
        if phase is Phase.STOPPED or phase is Phase.STOPPING:
            return allocation.desired is DesiredStatus.STOPPED
        return phase not in TERMINAL_PHASES or self.world.state.spec_of(allocation).is_job

    @rule()
    def the_leader_is_restarted_and_knows_of_no_copy_how_it_is(self) -> None:
        ended = {one: status for one, status in self.world.statuses.items() if status.phase in TERMINAL_PHASES}
        self.world.statuses = ended

    def teardown(self) -> None:
        world = self.world
        world.settle()
        if WEB not in world.state.services:
            assert not world.state.allocations
            assert not world.state.removed
            return
        for _ in range(3):
            world.resume(WEB)
            world.promote(WEB)
            world.settle()
        record = world.record()
        fits = record.replicas <= 2 or not any(port.host_port for port in record.spec.ports)
        if record.rollout.state is RolloutState.FAILED or self._is_bad(record.spec) or not fits:
            # Whatever it was, the next good deploy puts it right.
            good = make_spec(image="web:9", replicas=2)
            world.put(good)
            world.settle()
            record = world.record()
        assert record.rollout.state is RolloutState.COMPLETED, record.rollout
        copies = world.copies()
        assert all(one.template == record.current.template for one in copies), copies
        assert len(copies) == record.replicas
        assert all(one.desired is DesiredStatus.RUNNING for one in copies)
        if not record.spec.is_job:
            assert world.serving(WEB) == record.replicas
        assert not world.think()

    def _is_bad(self, spec: ServiceSpec) -> bool:
        image = msgspec.to_builtins(spec.source)["image"]
        return image in self.world.bad_images


TestPlanning = Planning.TestCase
TestPlanning.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
