"""The reconciler in any order of events: it keeps its rules, and in the end everything is as wanted."""

import enum
from collections.abc import Iterable

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from node.reconciler.events import Action, AssignmentsChanged, HealthVerdict, RuntimeReported
from node.runtime.base import InstanceState
from orca.model.allocation import TERMINAL_PHASES, DesiredStatus, Phase
from orca.model.ids import AllocationId
from orca.model.spec import RestartPolicy
from tests.node.reconciler.model_world import Thing, World, make_assignment

POLICIES = st.sampled_from([RestartPolicy.ALWAYS, RestartPolicy.ALWAYS, RestartPolicy.NEVER, RestartPolicy.ON_FAILURE])
EXITS = st.sampled_from([0, 0, 1, 137])


class Mischief(enum.Enum):
    """What others do to a node, none of it often."""

    FORGET = "the cluster forgets a copy, in whatever state"
    EMPTY_STATE = "somebody tells of an empty state that nobody vouches for"
    STRANGER = "an instance exists that nobody asked for"
    SECOND_WORD = "an old word of the engine arrives again"
    REMOVED = "somebody removes an instance by hand"
    STARTED = "somebody starts an instance by hand"
    ENGINE_DOWN = "the engine goes away"
    ENGINE_KILLED = "the engine goes away and takes its instances along"
    ENGINE_BACK = "the engine comes back"
    AGENT_KILLED = "the agent is killed and started again"


class ReconcilerInAnyOrder(RuleBasedStateMachine):
    """See `World` for what is held after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.made = 0
        self.world.come_up()

    def _pick(self, data: st.DataObject, names: Iterable[AllocationId]) -> AllocationId | None:
        found = sorted(names)
        return data.draw(st.sampled_from(found)) if found else None

    @initialize(policy=POLICIES)
    def begin(self, policy: RestartPolicy) -> None:
        self.place(policy, None)

    @precondition(lambda self: self.made < 4)
    @rule(policy=POLICIES, attempts=st.sampled_from([None, 1]))
    def place(self, policy: RestartPolicy, attempts: int | None) -> None:
        self.made += 1
        self.world.assign(make_assignment(f"a{self.made}", policy, attempts_max=attempts))

    @precondition(lambda self: self.world.wanted)
    @rule(data=st.data())
    def decide_to_stop(self, data: st.DataObject) -> None:
        name = self._pick(data, self.world.wanted)
        if name is not None:
            before = self.world.wanted[name]
            stopped = msgspec.structs.replace(before.allocation, desired=DesiredStatus.STOPPED)
            self.world.assign(msgspec.structs.replace(before, allocation=stopped))

    @rule(steps=st.integers(1, 6))
    def all_goes_well_for_a_while(self, steps: int) -> None:
        for _ in range(steps):
            if not self.world.work():
                self.world.tick()

    @precondition(lambda self: self.world.in_flight)
    @rule(data=st.data(), error=st.sampled_from(["", "", "refused"]), is_late=st.booleans())
    def an_action_ends(self, data: st.DataObject, error: str, is_late: bool) -> None:
        name = self._pick(data, self.world.in_flight)
        assert name is not None
        self.world.end_action(name, error=error, is_late=bool(error) and is_late)

    @precondition(lambda self: self.world.is_list_asked)
    @rule()
    def the_engine_looks_around(self) -> None:
        self.world.snapshot = self.world.listing()

    @precondition(lambda self: self.world.is_list_asked)
    @rule(fails=st.sampled_from([False, False, True]))
    def a_listing_is_answered(self, fails: bool) -> None:
        self.world.answer_list(fails=fails)

    @precondition(lambda self: self.world.words)
    @rule()
    def a_word_of_the_engine_arrives(self) -> None:
        self.world.deliver()

    @precondition(lambda self: self.world.things)
    @rule(data=st.data(), exit_code=EXITS)
    def a_workload_ends(self, data: st.DataObject, exit_code: int) -> None:
        name = self._pick(data, self.world.things)
        assert name is not None
        self.world.exit(name, exit_code)

    @precondition(lambda self: self.world.probes)
    @rule(data=st.data(), verdict=st.sampled_from(HealthVerdict))
    def a_probe_concludes(self, data: st.DataObject, verdict: HealthVerdict) -> None:
        name = self._pick(data, self.world.probes)
        assert name is not None
        self.world.verdict(name, verdict)

    @rule()
    def time_passes(self) -> None:
        self.world.tick()

    @rule(data=st.data(), what=st.sampled_from(Mischief))
    def mischief(self, data: st.DataObject, what: Mischief) -> None:
        world = self.world
        thing, copy = self._pick(data, world.things), self._pick(data, world.wanted)
        match what:
            case Mischief.FORGET if copy:
                del world.wanted[copy]
                world.tell()
            case Mischief.EMPTY_STATE:
                world.step(AssignmentsChanged(assignments=(), is_trusted=False))
            case Mischief.STRANGER if self.made < 4:
                self.made += 1
                stranger = AllocationId(f"a{self.made}")
                world.things[stranger] = Thing()
                world.start(stranger)
            case Mischief.SECOND_WORD if world.past_words:
                world.step(RuntimeReported(event=data.draw(st.sampled_from(world.past_words))))
            case Mischief.REMOVED if thing and world.is_up:
                world.remove(thing)
            case Mischief.STARTED if thing and world.is_up and thing in world.wanted:
                # Who starts a job by hand wants it to run again.
                if not world.wanted[thing].spec.is_job:
                    world.start(thing)
            case Mischief.ENGINE_DOWN | Mischief.ENGINE_KILLED if world.is_up:
                world.go_down(kills=what is Mischief.ENGINE_KILLED)
            case Mischief.ENGINE_BACK if not world.is_up:
                world.come_up()
            case Mischief.AGENT_KILLED:
                world.restart()
            case _:
                pass

    def teardown(self) -> None:
        world = self.world
        world.settle()
        world.come_up()  # and it lists once more
        world.settle()
        for name, assignment in world.wanted.items():
            status, thing = world.statuses[name], world.things.get(name)
            if assignment.allocation.desired is DesiredStatus.STOPPED:
                assert status.phase in TERMINAL_PHASES, f"{name} is {status.phase}"
                assert thing is None, f"{name} still exists"
            elif status.phase in {Phase.COMPLETED, Phase.FAILED}:
                assert assignment.spec.is_job, f"{name} is a service and was given up"
            else:
                assert status.phase is Phase.RUNNING, f"{name} is {status.phase}"
                assert thing is not None, f"{name} does not exist"
                assert thing.state is InstanceState.RUNNING, f"{name} is {thing.state}"
                assert name in world.probes, f"{name} is not probed"
        assert world.probes <= set(world.wanted), "an orphan is probed"
        if world.is_trusted:
            assert set(world.things) <= set(world.wanted), "orphans are left"
        assert Action.LAUNCH not in {order.action for order in world.in_flight.values()}


TestReconcilerInAnyOrder = ReconcilerInAnyOrder.TestCase
TestReconcilerInAnyOrder.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
