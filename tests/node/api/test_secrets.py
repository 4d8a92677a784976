"""Secrets over HTTP: values come in as base64 and are in no answer."""

from collections.abc import AsyncGenerator

import msgspec
import pytest

from orca.model.ids import SecretId
from orca.model.secret_view import SecretsReply, SetSecretsRequest
from tests.node.api.control import FakeControl
from tests.node.api.raw import ask, serving

pytestmark = pytest.mark.integration
Address = tuple[str, int]
DB = SecretId("shop/db")


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
async def address(control: FakeControl) -> AsyncGenerator[Address, None]:
    async with serving(control) as addresses:
        yield addresses.tcp[0]


async def test_a_secret_is_set_by_base64_and_listed_without_its_value(address: Address, control: FakeControl) -> None:
    body = msgspec.json.encode(SetSecretsRequest(values={DB: b"hunter2\n"}))
    assert b"aHVudGVyMgo=" in body
    got = await ask(address, "PUT", "/v1/secrets", body)
    assert (got.status, got.json()["changed"]) == (200, [DB])
    assert control.secrets.values == {DB: b"hunter2\n"}
    again = await ask(address, "PUT", "/v1/secrets", body)
    assert again.json()["unchanged"] == [DB]
    listed = await ask(address, "GET", "/v1/secrets")
    assert [one.id for one in msgspec.json.decode(listed.body, type=SecretsReply).secrets] == [DB]
    assert (await ask(address, "GET", "/v1/secrets?project=other")).json()["secrets"] == []
    assert not [one for one in (got, again, listed) if b"hunter2" in one.body or b"aHVudGVyMgo" in one.body]


async def test_a_secret_is_removed_by_its_id_and_an_unknown_one_is_not_found(
    address: Address, control: FakeControl
) -> None:
    control.secrets.values = {DB: b"x", SecretId("/shared"): b"y"}
    assert (await ask(address, "DELETE", "/v1/secrets?id=shop/db")).json()["changed"] == [DB]
    assert (await ask(address, "DELETE", "/v1/secrets?id=/shared")).status == 200
    gone = await ask(address, "DELETE", "/v1/secrets?id=shop/db")
    assert gone.status == 404
    assert b'"not_found"' in gone.body


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PUT", "/v1/secrets", b'{"values":{"shop/db":"no base64!"}}'),
        ("PUT", "/v1/secrets", b'{"values":{"shop/db":7}}'),
        ("PUT", "/v1/secrets", b'{"value":{}}'),
        ("DELETE", "/v1/secrets", b""),
        ("DELETE", "/v1/secrets?id=db", b""),
    ],
)
async def test_a_request_that_is_no_secret_is_refused_and_nothing_is_set(
    address: Address, control: FakeControl, method: str, target: str, body: bytes
) -> None:
    got = await ask(address, method, target, body)
    assert got.status == 400
    assert not control.secrets.values
