"""Who is told what is committed, and when."""

import math

from consensus.commits import WORD_S, CommitWords
from consensus.raft import Message
from consensus.raft.messages import AppendEntries, Heartbeat
from orca.model.ids import LogIndex, NodeId, Term
from orca.model.units import Instant

A, B = NodeId("a"), NodeId("b")
NOW = Instant(5.0)


def word(commit_index: int, number: int = 0) -> Heartbeat:
    return Heartbeat(term=Term(1), epoch=0, commit_index=LogIndex(commit_index), round=number)


def append(commit_index: int) -> Message:
    return AppendEntries(
        term=Term(1),
        epoch=0,
        prev_index=LogIndex(9),
        prev_term=Term(1),
        commit_index=LogIndex(commit_index),
        entries=(),
    )


def test_a_word_waits_a_moment_and_the_newest_is_sent() -> None:
    words = CommitWords()
    assert words.due_at == math.inf
    assert words.takes(A, word(3), NOW)
    assert words.takes(A, word(4), Instant(NOW + WORD_S / 2))
    assert words.takes(B, word(4), Instant(NOW + WORD_S / 2))
    assert words.due_at == NOW + WORD_S
    assert words.take() == {A: word(4), B: word(4)}
    assert (words.take(), words.due_at) == ({}, math.inf)


def test_an_append_that_tells_as_much_takes_the_place_of_the_word_to_its_peer() -> None:
    words = CommitWords()
    words.takes(A, word(4), NOW)
    words.takes(B, word(4), NOW)
    assert not words.takes(A, append(4), NOW)
    assert not words.takes(B, append(3), NOW)
    assert words.take() == {B: word(4)}


def test_a_heartbeat_that_wants_an_answer_never_waits() -> None:
    words = CommitWords()
    words.takes(A, word(4), NOW)
    assert not words.takes(A, word(4, number=7), NOW)
    assert (words.take(), words.due_at) == ({}, math.inf)
