"""apply is total and deterministic, whatever comes: also plans that no scheduler would make."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import consensus.state.commands as all_commands
from consensus.state.apply import apply
from consensus.state.cluster import ClusterState, Outcome
from consensus.state.commands import AdmitNode, Change, Command, CommandStruct, decode_command, encode_command
from consensus.state.snapshot import decode_snapshot, encode_snapshot
from orca.errors import error_classes
from orca.model.ids import LogIndex
from tests.consensus.intent import image
from tests.consensus.state.drawn_commands import COMMANDS, logs, on_present_state

ROOT = Path(__file__).parents[3]


def run(commands: list[Command], state: ClusterState) -> tuple[list[Command], list[Outcome]]:
    outcomes: list[Outcome] = []
    sent: list[Command] = []
    for index, drawn in enumerate(commands, start=1):
        command = on_present_state(drawn, state, index)
        before, fences = image(state), highest_fence(state)
        is_repeated = getattr(command, "request_id", None) in state.requests
        outcome = apply(state, LogIndex(index), command)
        state.check_invariants()
        if outcome.error:
            assert outcome.error in error_classes(), f"{outcome.error} is no code of an error"
            assert outcome.message
        if outcome.error or is_repeated:
            assert image(state) == before, "a refusal or a repetition changed something"
        is_audited = isinstance(command, Change | AdmitNode) and not is_repeated
        assert (LogIndex(index) in {**state.audit, **state.refusals}) == is_audited
        for lease in outcome.leases if not is_repeated else ():
            assert lease.epoch <= fences or lease.epoch == (state.epoch << 40) + index, "a number was given twice"
        assert state.revision <= index
        sent.append(command)
        outcomes.append(outcome)
    return sent, outcomes


def highest_fence(state: ClusterState) -> int:
    return max((lease.epoch for lease in state.leases.values()), default=0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(logs(60))
def test_any_commands_give_a_state_that_holds_together_and_the_same_one_everywhere(commands: list[Command]) -> None:
    state = ClusterState()
    sent, outcomes = run(commands, state)
    other = ClusterState()
    again = [apply(other, LogIndex(at), decode_command(encode_command(one))) for at, one in enumerate(sent, start=1)]
    assert again == outcomes
    assert encode_snapshot(other) == encode_snapshot(state)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(logs(40), st.lists(COMMANDS, max_size=15))
def test_a_replica_that_starts_from_a_snapshot_goes_on_like_one_that_read_the_whole_log(
    before: list[Command], after: list[Command]
) -> None:
    state = ClusterState()
    run(before, state)
    frozen = state.freeze()
    snapshot = encode_snapshot(frozen)
    restored = decode_snapshot(snapshot)
    for at, drawn in enumerate(after, start=len(before) + 1):
        command = on_present_state(drawn, state, at)
        assert apply(state, LogIndex(at), command) == apply(restored, LogIndex(at), command)
    assert encode_snapshot(restored) == encode_snapshot(state)
    assert encode_snapshot(frozen) == snapshot, "what was applied later shows in the frozen state"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(logs(30))
def test_every_request_that_comes_again_gets_its_first_answer_and_changes_nothing(commands: list[Command]) -> None:
    state = ClusterState()
    sent, _ = run(commands, state)
    first = dict(state.requests)
    before = encode_snapshot(state)
    for at, command in enumerate(sent, start=len(sent) + 1):
        if isinstance(command, Change | AdmitNode) and command.request_id is not None:
            assert apply(state, LogIndex(at), command) == first[command.request_id]
    assert encode_snapshot(state) == before


def draw_many() -> list[list[Command]]:
    """The same command sequences in every process."""
    found: list[list[Command]] = []

    @settings(
        max_examples=250, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(logs(60))
    def collect(commands: list[Command]) -> None:
        found.append(commands)

    collect()
    return found


def test_every_kind_of_command_is_drawn_and_carried_out() -> None:
    kinds = [
        kind
        for kind in vars(all_commands).values()
        if isinstance(kind, type) and issubclass(kind, CommandStruct) and kind.__struct_config__.tag is not None
    ]
    drawn: Counter[type] = Counter()
    worked: Counter[type] = Counter()
    for commands in draw_many():
        sent, outcomes = run(commands, ClusterState())
        drawn.update(type(command) for command in sent)
        worked.update(type(command) for command, outcome in zip(sent, outcomes, strict=True) if not outcome.error)
    never = [kind.__name__ for kind in kinds if not drawn[kind]]
    assert not never, f"nobody draws {never}"
    idle = [kind.__name__ for kind in kinds if not worked[kind]]
    assert len(idle) <= 3, f"these are always refused, so their effects are not tested: {idle}"


_PROGRAM = """
import hashlib, sys
from consensus.state.apply import apply
from consensus.state.cluster import ClusterState
from consensus.state.commands import decode_command
from consensus.state.snapshot import encode_snapshot
import msgspec
digest = hashlib.sha256()
for log in msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[list[bytes]]):
    state = ClusterState()
    for index, payload in enumerate(log, start=1):
        digest.update(repr(apply(state, index, decode_command(payload))).encode())
    digest.update(encode_snapshot(state))
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_replicas_with_other_string_hashes_make_the_same_bytes() -> None:
    logs, here = [], hashlib.sha256()
    for commands in draw_many():
        state = ClusterState()
        sent, outcomes = run(commands, state)
        logs.append([encode_command(command) for command in sent])
        for outcome in outcomes:
            here.update(repr(outcome).encode())
        here.update(encode_snapshot(state))
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            input=msgspec.msgpack.encode(logs),
            capture_output=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            timeout=120,
        )
        assert done.stdout.decode().strip() == here.hexdigest(), f"PYTHONHASHSEED={seed} gives another state"
