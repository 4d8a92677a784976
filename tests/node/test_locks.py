"""Deploy locks as people ask for them."""

import pytest

from node.changes import check_locks
from orca.errors import ConflictError, InvalidRequestError, NotFoundError
from orca.model.ids import ProjectName
from orca.model.lock_view import LockRequest
from orca.model.trust import Author
from orca.model.units import WallMs
from orca.model.view import DeployRequest
from tests.consensus.intent import make_spec
from tests.node.scheduling import Admitted

ANN = Author(actor="ann", origin="local")
BOB = Author(actor="bob", origin="local")
DEFAULT = ProjectName("default")
REQUEST = LockRequest(projects=(DEFAULT,), note="careful", ttl_s=60)


async def test_a_lock_is_listed_while_it_is_held() -> None:
    world = Admitted()
    (lock,) = (await world.locks.acquire(REQUEST, by=ANN)).locks
    assert world.locks.list().locks == (lock,)
    assert (lock.holder, lock.note, lock.expires_at_ms) == ("ann", "careful", world.at_ms + 60_000)
    with pytest.raises(ConflictError, match="locked by ann"):
        await world.locks.acquire(REQUEST, by=BOB)
    assert (await world.locks.release(DEFAULT, "", None, by=BOB)).locks == (lock,)
    assert world.locks.list().locks == ()
    with pytest.raises(NotFoundError):
        await world.locks.release(DEFAULT, "", None, by=BOB)


async def test_a_lock_that_is_over_is_listed_no_more() -> None:
    world = Admitted()
    await world.locks.acquire(REQUEST, by=ANN)
    world.at_ms += 60_000
    assert world.locks.list().locks == ()


async def test_a_deploy_is_refused_before_its_secrets_are_set() -> None:
    world = Admitted()
    (lock,) = (await world.locks.acquire(REQUEST, by=ANN)).locks
    request = DeployRequest(specs=(make_spec(),))
    with pytest.raises(ConflictError, match=r"\(careful\)"):
        check_locks(world.state, request, WallMs(world.at_ms))
    check_locks(world.state, DeployRequest(specs=(make_spec(),), lock=lock.id), WallMs(world.at_ms))


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, 31 * 86_400.0, float("nan")])
async def test_a_lock_has_an_end_that_makes_sense(ttl_s: float) -> None:
    with pytest.raises(InvalidRequestError, match="out of range"):
        await Admitted().locks.acquire(LockRequest(projects=(DEFAULT,), ttl_s=ttl_s), by=ANN)
