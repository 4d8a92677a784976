"""Setting, listing and removing secrets: what is changed, what is refused, and that no value shows."""

from typing import cast

import msgspec
import pytest

from consensus.driver import ReplicaDriver
from consensus.state.commands import encode_command
from node.secrets import SecretControl
from node.secrets.rotation import KeyRotation
from node.sources import SystemClock
from orca.errors import ConflictError, InvalidRequestError, NotAvailableError, NotFoundError, PayloadTooLargeError
from orca.model.ids import ProjectName, RequestId, SecretId
from orca.model.secret_view import SetSecretsRequest
from orca.model.secrets import SECRET_BYTES_MAX
from orca.model.trust import Author
from orca.model.view import DeployRequest
from tests.consensus.intent import make_spec
from tests.node.secrets.parts import Group, OneKeyVault

DB, SHARED = SecretId("shop/db"), SecretId("/shared")
R = RequestId("r-1")
ANN = Author(actor="ann", origin="here")


def make(vault: OneKeyVault | None = None) -> tuple[Group, SecretControl]:
    group = Group()
    unused = cast("KeyRotation", None)
    return group, SecretControl(cast("ReplicaDriver", group), vault or OneKeyVault(), SystemClock(), unused)


async def put(control: SecretControl, request: str = "r-1", **values: bytes) -> tuple[SecretId, ...]:
    named = {SecretId(name.replace("__", "/")): value for name, value in values.items()}
    changed, _ = await control.set(named, request_id=RequestId(request), by=ANN)
    return changed


async def test_a_set_secret_is_listed_with_who_uses_it_and_its_value_is_nowhere() -> None:
    group, control = make()
    assert await put(control, shop__db=b"hunter2", __shared=b"s") == (SHARED, DB)
    group.cluster.put(make_spec("web", project=ProjectName("shop"), env={"A": "${secrets.db}"}))
    own, other = control.list()[::-1]
    assert (own.id, own.users, own.updated_by) == (DB, ("shop/web",), "ann")
    assert (other.id, other.users) == (SHARED, ())
    assert [one.id for one in control.list(ProjectName("shop"))] == [DB]
    everything = [
        *map(encode_command, group.proposed),
        repr(group.proposed).encode(),
        repr(group.state).encode(),
        msgspec.json.encode(control.list()),
        repr(SetSecretsRequest(values={DB: b"hunter2"})).encode(),
        repr(DeployRequest(specs=(), secrets={DB: b"hunter2"})).encode(),
    ]
    assert not [one for one in everything if b"hunter2" in one]


async def test_a_value_that_is_there_already_changes_nothing_and_starts_no_copy_anew() -> None:
    group, control = make()
    await put(control, shop__db=b"one")
    assert await put(control, "r-2", shop__db=b"one") == ()
    assert len(group.proposed) == 1
    assert await put(control, "r-3", shop__db=b"two", shop__new=b"x") == (DB, SecretId("shop/new"))


async def test_a_node_without_the_data_key_says_so_and_nothing_is_proposed() -> None:
    group, control = make(OneKeyVault(is_shut=True))
    with pytest.raises(NotAvailableError, match="no data key"):
        await put(control, shop__db=b"one")
    assert not group.proposed


@pytest.mark.parametrize("name", ["db", "shop/", "a/b/c", "shop/with space", "sh op/db", "shop/$x"])
async def test_what_is_no_id_of_a_secret_is_refused(name: str) -> None:
    group, control = make()
    with pytest.raises(InvalidRequestError, match="is no id of a secret"):
        await control.set({SecretId(name): b"x"}, request_id=R, by=ANN)
    assert not group.proposed


async def test_limits_are_told_before_anything_is_sealed() -> None:
    _, control = make()
    with pytest.raises(InvalidRequestError, match="no secret is named"):
        await control.set({}, request_id=R, by=ANN)
    with pytest.raises(InvalidRequestError, match="501 secrets come at once"):
        await control.set({SecretId(f"shop/{n}"): b"" for n in range(501)}, request_id=R, by=ANN)
    with pytest.raises(PayloadTooLargeError, match="shop/db has 131073 bytes"):
        await control.set({DB: bytes(SECRET_BYTES_MAX + 1)}, request_id=R, by=ANN)
    await put(control, shop__db=bytes(SECRET_BYTES_MAX))


async def test_a_secret_in_use_stays_and_an_unknown_one_is_not_found() -> None:
    group, control = make()
    await put(control, shop__db=b"one")
    group.cluster.put(make_spec("web", project=ProjectName("shop"), env={"A": "${secrets.db}"}))
    with pytest.raises(ConflictError, match="used by shop/web"):
        await control.remove((DB,), request_id=RequestId("r-2"), by=ANN)
    with pytest.raises(NotFoundError):
        await control.remove((SHARED,), request_id=RequestId("r-3"), by=ANN)
    assert list(group.state.secrets) == [DB]
