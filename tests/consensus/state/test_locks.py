"""Deploy locks: one holder a project, who is told to everybody else, and nothing but deploys is held back."""

from typing import Any

from consensus.state.commands.locks import AcquireLock, ReleaseLock
from consensus.state.snapshot import decode_snapshot, encode_snapshot
from orca.model.ids import ProjectName
from orca.model.units import WallMs
from tests.consensus.intent import Cluster, make_spec

DEFAULT = ProjectName("default")
SHOP = ProjectName("shop")


class Locked(Cluster):
    """A cluster whose people lock and release."""

    def acquire(self, *projects: ProjectName, actor: str = "ann", **fields: Any) -> tuple[str, str]:
        """The id of the lock, and why it was refused."""
        stamp = {**self._stamp(), "actor": actor}
        outcome = self.apply(AcquireLock(projects=projects or (DEFAULT,), **stamp, **fields))
        assert outcome.error in {"", "conflict", "invalid_request"}
        return stamp["request_id"], outcome.message

    def release(self, lock: str = "", project: ProjectName = DEFAULT) -> str:
        return self.apply(ReleaseLock(project=project, lock=lock, **self._stamp())).error


def test_of_two_who_lock_at_once_one_gets_it_and_the_other_is_told_who_since_when_and_how_to_end_it() -> None:
    cluster = Locked()
    lock, refused = cluster.acquire(note="moving the database")
    assert not refused
    cluster.at_ms += 90_000
    _, refused = cluster.acquire(actor="bob")
    assert refused == (
        "deploys to project default are locked by ann for 1m30s (moving the database); wait, or release it with "
        "`orca lock release default`"
    )
    assert cluster.put(make_spec(), actor="bob").message == refused
    assert cluster.put(make_spec(), lock="another").error == "conflict"
    assert not cluster.put(make_spec(), lock=lock).error


def test_whoever_holds_no_lock_is_one_more_even_with_the_same_account() -> None:
    cluster = Locked()
    cluster.acquire()
    assert cluster.put(make_spec()).error == "conflict"
    assert cluster.acquire()[1]


def test_a_lock_of_one_project_does_not_hold_back_another() -> None:
    cluster = Locked()
    cluster.acquire(SHOP)
    assert not cluster.put(make_spec()).error
    assert cluster.put(make_spec(project="shop")).error == "conflict"
    assert cluster.put(make_spec(image="web:2"), prune=("shop",)).error == "conflict", "a prune removes there"


def test_several_projects_are_locked_all_or_none() -> None:
    cluster = Locked()
    cluster.acquire(SHOP)
    assert cluster.acquire(DEFAULT, SHOP)[1]
    assert list(cluster.state.locks) == [SHOP]
    assert cluster.release(project=SHOP) == ""
    lock, refused = cluster.acquire(DEFAULT, SHOP)
    assert not refused
    assert not cluster.put(make_spec(), make_spec(project="shop"), lock=lock).error


def test_what_helps_in_an_emergency_is_never_held_back() -> None:
    cluster = Locked()
    cluster.put(make_spec())
    cluster.put(make_spec(image="web:2"))
    cluster.acquire(actor="bob")
    assert not cluster.roll_back("default/web", 1).error
    assert not cluster.scale("default/web", 2).error
    assert not cluster.stop("default/web").error


def test_a_lock_ends_by_release_and_by_its_time_and_is_never_ended_for_another() -> None:
    cluster = Locked()
    first, _ = cluster.acquire(expires_at_ms=WallMs(cluster.at_ms + 1000))
    cluster.at_ms += 1000
    assert not cluster.put(make_spec()).error
    second, refused = cluster.acquire(actor="bob")
    assert not refused
    assert cluster.release(first) == "conflict", "it is bob's by now"
    assert cluster.release(second) == ""
    assert cluster.release() == "not_found"
    assert not cluster.put(make_spec(image="web:2")).error


def test_who_lost_the_lock_does_not_deploy_as_if_he_had_it() -> None:
    cluster = Locked()
    lock, _ = cluster.acquire()
    cluster.release()
    outcome = cluster.put(make_spec(), lock=lock)
    assert (outcome.error, "is not held any more" in outcome.message) == ("conflict", True)


def test_a_lock_that_makes_no_sense_is_refused() -> None:
    cluster = Locked()
    assert "end before it begins" in cluster.acquire(expires_at_ms=WallMs(cluster.at_ms))[1]
    assert "project is empty" in cluster.acquire(ProjectName(""))[1]
    assert not cluster.state.locks
    nothing = cluster.apply(AcquireLock(projects=(), **cluster._stamp()))
    assert nothing.error == "invalid_request"


def test_locks_are_in_the_snapshot_and_in_the_audit() -> None:
    cluster = Locked()
    cluster.acquire(note="x")
    assert decode_snapshot(encode_snapshot(cluster.state)).locks == cluster.state.locks
    (deed,) = cluster.state.audit.values()
    assert (deed.action, deed.subject, deed.actor) == ("acquire_lock", "project default", "ann")
