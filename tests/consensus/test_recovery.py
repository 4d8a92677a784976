"""What speaks against starting a group anew, and what the new life begins with."""

import random

import pytest

from consensus.raft import epoch_number, next_epoch, recovery_write
from consensus.storage import EntryKind, LoadedLog, Membership, decode_membership, follow
from consensus.subgroup import Standing, objections
from orca.model.ids import LogIndex, NodeId, Term

A, B, C, D = (NodeId(name) for name in "abcd")
GROUP = Membership(voters=(A, B, C))


def stands(node: NodeId, term: int = 2, index: int = 10, *, epoch: int = 0, leader: NodeId | None = None) -> Standing:
    return Standing(node=node, epoch=epoch, last_term=Term(term), last_index=LogIndex(index), leader=leader)


def against(own: Standing, *others: Standing, silent: tuple[NodeId, ...] = ()) -> list[tuple[bool, str]]:
    alive = [*(one.node for one in others), *silent]
    return [(one.is_final, one.message) for one in objections(own, GROUP, alive, others, silent, str)]


def test_a_survivor_that_knows_as_much_as_anybody_may_go_on() -> None:
    assert against(stands(A), stands(D)) == []
    assert against(stands(A, 3, 8), stands(D, 2, 99)) == []  # a later term holds all that was committed before
    assert against(stands(D), stands(A, 2, 9)) == []


@pytest.mark.parametrize("more", [stands(D, 2, 11), stands(D, 3, 1)])
def test_a_survivor_that_knows_more_is_named_and_can_be_overruled(more: Standing) -> None:
    ((is_final, message),) = against(stands(A), more)
    assert not is_final
    assert message.startswith("d knows more")


def test_one_that_does_not_answer_may_know_more() -> None:
    ((is_final, message),) = against(stands(A), silent=(D,))
    assert not is_final
    assert "d is believed to live and does not answer" in message


@pytest.mark.parametrize(
    ("own", "others", "said"),
    [
        (stands(A), (stands(B),), "2 of 3 voters live (a, b), which is a quorum"),
        (stands(A), (stands(D, leader=B),), "d hears that b leads"),
        (stands(A, leader=B), (), "a hears that b leads"),
        (stands(A), (stands(D, epoch=1 << 32),), "d knows of epoch 1"),
        (stands(A, 0, 0), (), "its log is empty"),
    ],
)
def test_no_force_starts_a_group_beside_one_that_lives(own: Standing, others: tuple[Standing, ...], said: str) -> None:
    found = against(own, *others)
    assert any(is_final and said in message for is_final, message in found), found


def test_two_new_lives_of_one_past_have_different_epochs_of_the_same_number() -> None:
    rng = random.Random(1)
    first, second = next_epoch(0, rng), next_epoch(0, rng)
    assert first != second
    assert epoch_number(first) == epoch_number(second) == 1
    assert next_epoch(min(first, second), rng) > max(first, second)


def test_a_new_life_has_one_voter_and_the_whole_log() -> None:
    standing = stands(A, 2, 0)
    write = recovery_write(A, Term(5), standing.position, 1 << 32)
    after = follow(LoadedLog(), write)
    assert (after.hard_state.term, after.hard_state.epoch) == (6, 1 << 32)
    (entry,) = after.entries
    assert (entry.kind, entry.term) == (EntryKind.MEMBERSHIP, 6)
    assert decode_membership(entry.payload) == Membership(voters=(A,))
    with pytest.raises(AssertionError, match="does not come after"):
        recovery_write(A, Term(5), standing.position, 0)
