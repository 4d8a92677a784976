import pytest

from consensus.raft import PeerState, RaftConfig
from consensus.raft.progress import CatchUp, Progress
from consensus.raft.transfer import SnapshotTransfer
from orca.model.ids import LogIndex
from orca.model.units import Instant
from tests.contracts.log_store import snapshot_at

NOW = Instant(10.0)
CONFIG = RaftConfig(inflight_appends_max=3, inflight_bytes_max=100)
LAST = LogIndex(50)


def replicating(match: int = 10) -> Progress:
    progress = Progress(LogIndex(match + 1), LAST, NOW)
    progress.accepted(LogIndex(match))
    assert progress.state is PeerState.REPLICATE
    progress.check_invariants(LAST, CONFIG)
    return progress


def test_a_new_peer_is_asked_one_append_at_a_time() -> None:
    progress = Progress(LogIndex(50), LAST, NOW)
    assert progress.has_room(CONFIG)
    progress.sent(LAST, 10, 1)
    assert not progress.has_room(CONFIG)
    assert progress.next_index == 50, "what was asked is asked again when it is lost"
    progress.check_invariants(LAST, CONFIG)


def test_a_peer_that_agrees_gets_appends_until_its_window_is_full() -> None:
    progress = replicating()
    for number in range(3):
        assert progress.has_room(CONFIG)
        progress.sent(LogIndex(11 + number), 10, 1)
    assert not progress.has_room(CONFIG)
    progress.accepted(LogIndex(12))
    assert progress.inflight_appends == 1
    assert progress.has_room(CONFIG)
    progress.sent(LogIndex(14), 95, 1)
    assert not progress.has_room(CONFIG), "too many bytes are on their way"
    progress.check_invariants(LAST, CONFIG)


def test_what_was_sent_before_an_answered_heartbeat_is_sent_again() -> None:
    progress = replicating()
    progress.sent(LogIndex(11), 10, 4)
    progress.answered_heartbeat(4)
    assert (progress.state, progress.next_index) == (PeerState.REPLICATE, 12), "it left after heartbeat 4"
    progress.answered_heartbeat(5)
    assert (progress.state, progress.next_index, progress.inflight_appends) == (PeerState.PROBE, 11, 0)


@pytest.mark.parametrize(("refused", "is_stale"), [(9, True), (10, True), (11, False), (40, False)])
def test_a_refusal_of_what_is_known_to_be_stored_is_old(refused: int, is_stale: bool) -> None:
    assert replicating().is_stale_refusal(LogIndex(refused)) is is_stale


def test_only_the_refusal_of_the_present_probe_counts() -> None:
    progress = replicating()
    progress.probe(LogIndex(30))
    assert progress.is_stale_refusal(LogIndex(40))
    assert not progress.is_stale_refusal(LogIndex(29))


def test_a_probe_never_goes_behind_what_is_stored() -> None:
    progress = replicating()
    progress.probe(LogIndex(3))
    assert progress.next_index == 11


def test_a_peer_is_fed_again_after_its_snapshot() -> None:
    progress = replicating()
    progress.install(SnapshotTransfer(snapshot_at(40, 2)))
    progress.accepted(LogIndex(20))
    assert progress.state is PeerState.SNAPSHOT
    progress.accepted(LogIndex(40))
    assert (progress.state, progress.next_index, progress.transfer) == (PeerState.REPLICATE, 41, None)
    progress.check_invariants(LAST, CONFIG)


def test_a_peer_knows_of_a_commit_when_it_answered_a_later_heartbeat() -> None:
    progress = replicating()
    progress.tell(LogIndex(10), 3)
    progress.answered_heartbeat(3)
    assert not progress.knows_commit(LogIndex(10))
    progress.answered_heartbeat(4)
    assert progress.knows_commit(LogIndex(10))
    assert not progress.knows_commit(LogIndex(11))


def test_rounds_end_where_the_log_ended_when_they_began() -> None:
    """Thesis §4.2.1."""
    rounds = CatchUp(LogIndex(100), Instant(0.0))
    rounds.observe(LogIndex(60), LogIndex(120), Instant(1.0))
    assert (rounds.rounds, rounds.last_round_s) == (0, None)
    rounds.observe(LogIndex(100), LogIndex(130), Instant(2.0))
    assert (rounds.rounds, rounds.last_round_s) == (1, 2.0)
    assert not rounds.is_done(0.75, Instant(2.0))
    rounds.observe(LogIndex(130), LogIndex(131), Instant(2.5))
    assert rounds.is_done(0.75, Instant(2.5))
    assert not rounds.is_done(0.75, Instant(3.5)), "the round under way takes too long"
    rounds.observe(LogIndex(131), LogIndex(131), Instant(3.0))
    assert rounds.is_done(0.75, Instant(900.0)), "nothing is missing, so no round is under way"
