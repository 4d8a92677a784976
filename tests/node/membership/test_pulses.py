"""Which nodes beside an agent are taken for silent."""

from node.membership.pulses import PULSE_S, SILENT_S, STALL_S, Pulses
from orca.model.ids import NodeId
from orca.model.units import Instant

A, B = NodeId("n-a"), NodeId("n-b")


def looking(pulses: Pulses, start: float, seconds: float, *, heard: NodeId | None = None) -> list[NodeId]:
    """Everybody who falls silent in that time, while `heard` is heard."""
    silent: list[NodeId] = []
    for turn in range(1, int(seconds / PULSE_S) + 1):
        now = Instant(start + turn * PULSE_S)
        if heard is not None:
            pulses.hear(heard, now)
        silent += pulses.look(now)
    return silent


def test_who_is_not_heard_is_silent_once_and_since_it_was_last_heard() -> None:
    pulses = Pulses(Instant(0))
    pulses.expect(A, Instant(0))
    pulses.expect(B, Instant(0))
    assert looking(pulses, 0, 3 * SILENT_S, heard=B) == [A]
    assert pulses.silent_since(A) == Instant(0)
    assert pulses.silent_since(B) is None


def test_who_is_heard_again_is_back_once() -> None:
    pulses = Pulses(Instant(0))
    pulses.expect(A, Instant(0))
    looking(pulses, 0, 2 * SILENT_S)
    assert pulses.hear(A, Instant(20))
    assert not pulses.hear(A, Instant(21))
    assert pulses.silent_since(A) is None


def test_who_did_not_look_for_a_while_accuses_nobody() -> None:
    """A process that was stopped finds all old news at once."""
    pulses = Pulses(Instant(0))
    pulses.expect(A, Instant(0))
    assert pulses.look(Instant(SILENT_S + STALL_S + 100)) == []
    assert looking(pulses, SILENT_S + STALL_S + 100, 2 * SILENT_S) == [A]


def test_a_stranger_is_not_expected_and_one_who_left_is_forgotten() -> None:
    pulses = Pulses(Instant(0))
    assert not pulses.hear(A, Instant(1))
    pulses.expect(B, Instant(0))
    pulses.forget(B)
    assert looking(pulses, 0, 3 * SILENT_S) == []
