"""apply is total and deterministic, whatever comes: also plans that no scheduler would make."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.state.apply import apply
from consensus.state.cluster import ClusterState, Outcome
from consensus.state.commands import (
    AdmitNode,
    Command,
    CommitPlan,
    PutServices,
    RemoveService,
    RestartService,
    RollbackService,
    RolloutUpdate,
    ScaleService,
    SpecEntry,
    StartService,
    StopService,
    decode_command,
    encode_command,
)
from consensus.state.snapshot import decode_snapshot, encode_snapshot
from orca.errors import error_classes
from orca.model.allocation import Allocation
from orca.model.ids import (
    AllocationId,
    LogIndex,
    NodeId,
    ProjectName,
    RequestId,
    ServiceId,
    SpecRevision,
    StateRevision,
)
from orca.model.spec import RouteSpec
from orca.model.units import WallMs
from orca.model.view import RolloutState
from tests.consensus.intent import image, make_spec, template

NAMES = st.sampled_from(["web", "db"])
SERVICES = NAMES.map(lambda name: ServiceId(f"default/{name}"))
COPIES = st.integers(0, 6).map(lambda number: AllocationId(f"c{number}"))
REVISIONS = st.integers(1, 6).map(SpecRevision)
ROUTES = st.sampled_from([(), (), (RouteSpec(domain="a.example"),), (RouteSpec(path="/x"),)])
TIMES = st.integers(0, 1000).map(WallMs)
REQUESTS = st.integers(0, 40).map(lambda number: RequestId(f"r{number}"))

SPECS = st.builds(make_spec, NAMES, st.sampled_from(["i:1", "i:2", "i:3"]), replicas=st.integers(0, 3), routes=ROUTES)
ENTRIES = st.lists(SPECS, max_size=3).map(
    lambda specs: tuple(SpecEntry(spec=spec, template=template(spec)) for spec in specs)
)
STAMP = {"request_id": REQUESTS, "at_ms": TIMES, "actor": st.just("ann")}
ALLOCATIONS = st.builds(
    Allocation,
    id=COPIES,
    service=SERVICES,
    revision=REVISIONS,
    template=st.sampled_from(["t", "u"]),
    slot=st.integers(0, 3),
    node=st.just(NodeId("n-1")),
)
ROLLOUTS = st.builds(
    RolloutUpdate,
    service=SERVICES,
    revision=REVISIONS,
    state=st.sampled_from(RolloutState),
    healthy=st.integers(0, 3),
    deadline_at_ms=TIMES,
)


def few(one: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(one, max_size=3).map(tuple)


COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        PutServices,
        entries=ENTRIES,
        prune_projects=st.sampled_from([(), (ProjectName("default"),)]),
        **STAMP,
    ),
    st.builds(ScaleService, service=SERVICES, replicas=st.integers(-1, 4), **STAMP),
    st.builds(StopService, service=SERVICES, **STAMP),
    st.builds(StartService, service=SERVICES, **STAMP),
    st.builds(RestartService, service=SERVICES, template=st.sampled_from(["t+1", "t+2"]), **STAMP),
    st.builds(RollbackService, service=SERVICES, to=REVISIONS, **STAMP),
    st.builds(RemoveService, service=SERVICES, **STAMP),
    st.builds(
        CommitPlan,
        base=st.integers(0, 30).map(StateRevision),
        at_ms=TIMES,
        placements=few(ALLOCATIONS),
        stops=few(COPIES),
        forgets=few(COPIES),
        rollouts=few(ROLLOUTS),
    ),
    st.builds(AdmitNode, node=st.just(NodeId("n-1")), name=st.sampled_from(["a", "b"]), at_ms=TIMES),
)


def on_present_state(command: Command, state: ClusterState, index: int) -> Command:
    """Most plans are made for the state as it is and of a revision that exists; some are not."""
    if not isinstance(command, CommitPlan) or index % 5 == 0:
        return command
    placements = []
    for one in command.placements:
        record = state.services.get(one.service)
        if record is not None:
            current = record.revisions[-1 if index % 2 else 0]
            one = msgspec.structs.replace(one, revision=current.revision, template=current.template)
        placements.append(one)
    known = dict.fromkeys(state.allocations)
    return msgspec.structs.replace(
        command,
        base=state.revision,
        placements=tuple(one for one in placements if one.service in state.services and one.id not in known),
        stops=tuple(one for one in command.stops if one in known),
        forgets=tuple(one for one in command.forgets if one in known),
    )


def run(commands: list[Command]) -> tuple[ClusterState, list[Command], list[Outcome]]:
    state = ClusterState()
    outcomes: list[Outcome] = []
    sent: list[Command] = []
    for index, drawn in enumerate(commands, start=1):
        command = on_present_state(drawn, state, index)
        before = image(state)
        outcome = apply(state, LogIndex(index), command)
        state.check_invariants()
        if outcome.error:
            assert outcome.error in error_classes(), f"{outcome.error} is no code of an error"
            assert outcome.message
            after = image(state)
            assert after == before, "a refusal changed something"
        assert state.revision <= index
        sent.append(command)
        outcomes.append(outcome)
    return state, sent, outcomes


@settings(max_examples=200, deadline=None)
@given(st.lists(COMMANDS, max_size=40))
def test_any_commands_give_a_state_that_holds_together_and_the_same_one_everywhere(commands: list[Command]) -> None:
    state, sent, outcomes = run(commands)
    other = ClusterState()
    again = [apply(other, LogIndex(at), decode_command(encode_command(one))) for at, one in enumerate(sent, start=1)]
    assert again == outcomes
    assert msgspec.msgpack.encode(other) == msgspec.msgpack.encode(state)


@settings(max_examples=100, deadline=None)
@given(st.lists(COMMANDS, max_size=30), st.lists(COMMANDS, max_size=10))
def test_a_replica_that_starts_from_a_snapshot_goes_on_like_one_that_read_the_whole_log(
    before: list[Command], after: list[Command]
) -> None:
    state, _, _ = run(before)
    restored = decode_snapshot(encode_snapshot(state))
    for at, drawn in enumerate(after, start=len(before) + 1):
        command = on_present_state(drawn, state, at)
        assert apply(state, LogIndex(at), command) == apply(restored, LogIndex(at), command)
    assert msgspec.msgpack.encode(restored) == msgspec.msgpack.encode(state)
