"""Any of five nodes, of which some vote at first; hypothesis chooses what befalls them, and shrinks what fails."""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.consensus.raft.group import Group
from tests.consensus.raft.moves import POST_MAX, Moves

NODES = 5
name = st.integers(1, NODES).map(lambda number: f"n{number}")
someone = st.just("leader") | st.just("leader") | name
crash = st.sampled_from([None, None, None, None, 0, 1, 2, 3, 4])


class GroupStory(RuleBasedStateMachine):
    """Moves in any order."""

    @initialize(voters=st.integers(1, 4), seed=st.integers(0, 1000), seconds=st.sampled_from([0.0, 3.0, 3.0]))
    def begin(self, voters: int, seed: int, seconds: float) -> None:
        self.moves = Moves(Group(NODES, voters, seed=seed), random.Random(seed))
        self.moves.group.run(seconds)

    @rule(node=name, wait_s=st.floats(0, 2), crash_before=crash)
    def time_passes(self, node: str, wait_s: float, crash_before: int | None) -> None:
        self.moves.time_passes(node, wait_s, crash_before)

    @rule()
    def network_works(self) -> None:
        self.moves.group.run(1.0)

    @rule(seconds=st.floats(0.1, 4), loss=st.sampled_from([0.0, 0.0, 0.1, 0.4]))
    def network_works_somewhat(self, seconds: float, loss: float) -> None:
        self.moves.network_works_somewhat(seconds, loss)

    @rule(who=someone, count=st.integers(1, 9), crash_before=crash)
    def propose(self, who: str, count: int, crash_before: int | None) -> None:
        self.moves.propose(who, count, crash_before)

    @rule(who=someone)
    def read(self, who: str) -> None:
        self.moves.read(who)

    @rule(who=someone, other=name, removes=st.booleans())
    def change(self, who: str, other: str, removes: bool) -> None:
        self.moves.change(who, other, removes)

    @rule(who=someone, to=st.none() | name)
    def transfer(self, who: str, to: str | None) -> None:
        self.moves.transfer(who, to)

    @rule(who=someone)
    def compact(self, who: str) -> None:
        self.moves.compact(who)

    @rule(node=name, other=name)
    def link_is_said_to_be_down(self, node: str, other: str) -> None:
        self.moves.link_is_said_to_be_down(node, other)

    @rule(node=name)
    def crash_or_start(self, node: str) -> None:
        self.moves.crash_or_start(node)

    @rule()
    def start_all(self) -> None:
        self.moves.start_all()

    @rule(node=name, spare=st.integers(0, 60))
    def disk_fills(self, node: str, spare: int) -> None:
        self.moves.disk_fills(node, spare)

    @rule()
    def disks_empty(self) -> None:
        self.moves.disks_empty()

    @rule(node=name)
    def cut_off(self, node: str) -> None:
        self.moves.cut_off(node)

    @rule(one=name, other=name)
    def cut_one_way(self, one: str, other: str) -> None:
        self.moves.cut_one_way(one, other)

    @rule()
    def heal(self) -> None:
        self.moves.group.heal()

    @precondition(lambda self: len(self.moves.group.post) > POST_MAX)
    @rule()
    def old_post_is_lost(self) -> None:
        self.moves.old_post_is_lost()

    @invariant()
    def is_safe(self) -> None:
        self.moves.check()

    def teardown(self) -> None:
        if hasattr(self, "moves"):
            self.moves.heal_and_check()


GroupStory.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
test_groups_are_safe_and_heal = GroupStory.TestCase
