"""API tokens and the audit on the command line, against a node's API on a real socket."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest

from orca.cli.main import run
from orca.commands.api_tokens import NewApiToken, find_api_token
from orca.errors import AmbiguousNameError, NotFoundError
from orca.model.access import ApiTokenView, AuditReply
from orca.model.api_token import parse_api_token
from orca.model.ids import TokenId
from orca.model.trust import ApiRole
from orca.model.units import WallMs
from tests.node.api.control import FakeControl
from tests.node.api.raw import serving
from tests.orca.cli.test_cli import orca

pytestmark = pytest.mark.integration


@pytest.fixture
async def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
async def node(control: FakeControl) -> AsyncGenerator[str, None]:
    async with serving(control) as addresses:
        host, port = addresses.tcp[0]
        yield f"{host}:{port}"


async def test_a_token_for_the_api_is_shown_once_works_and_is_revoked(node: str, control: FakeControl) -> None:
    made = await orca(
        node, "token", "create", "--api", "ci", "--role", "deployer", "--project", "shop", "--ttl", "30d", "--json"
    )
    assert made.returncode == 0, made.stderr
    reply = msgspec.json.decode(made.stdout, type=NewApiToken)
    token = parse_api_token(reply.token)
    assert token is not None
    record = control.access.state.api_tokens[token.id]
    assert (record.secret_hash, record.role, record.projects) == (token.secret_hash, ApiRole.DEPLOYER, ("shop",))
    assert token.secret not in repr(control.access.state)
    listed = await orca(node, "token", "ls")
    assert b"ci" in listed.stdout
    assert token.secret.encode() not in listed.stdout
    refused = await orca(node, "audit", "--token", reply.token)
    assert refused.returncode == 7
    assert b"is a deployer, and this takes an admin" in refused.stderr
    assert (await orca(node, "token", "revoke", reply.token)).returncode == 0
    assert not control.access.state.api_tokens
    assert (await orca(node, "status", "--token", reply.token)).returncode == 7


@pytest.mark.parametrize(
    "args",
    [
        ("--api", "ci", "--role", "worker"),
        ("--api", "ci", "--uses", "2"),
        ("--project", "shop"),
        ("--role", "viewer"),
        ("--api", "ci", "--ttl", "soon"),
    ],
)
async def test_what_belongs_to_another_kind_of_token_is_refused(
    node: str, control: FakeControl, args: tuple[str, ...]
) -> None:
    done = await orca(node, "token", "create", *args)
    assert done.returncode == 2, done.stdout
    assert not control.access.state.api_tokens


async def test_the_audit_is_a_table_and_what_it_is_asked_for_goes_to_the_node(node: str, control: FakeControl) -> None:
    shown = (await orca(node, "audit", "--actor", "ci", "--subject", "web", "-n", "5")).stdout.decode()
    assert "exec x3" in shown
    assert "forbidden: no" in shown
    assert control.calls[-1] == ("audit", "", (5, None, None, "ci", "web"))
    as_json = await orca(node, "audit", "--json")
    assert msgspec.json.decode(as_json.stdout, type=AuditReply).records[0].origin == "tcp:10.0.0.9:1"


async def test_events_are_of_all_nodes_or_of_the_one_that_is_asked(node: str) -> None:
    for options in ((), ("--here",)):
        done = await orca(node, "events", "--json", *options)
        assert done.returncode == 0, done.stderr


def test_a_token_is_found_by_its_name_its_id_and_itself() -> None:
    def view(name: str, number: str) -> ApiTokenView:
        return ApiTokenView(
            id=TokenId(number), name=name, role=ApiRole.VIEWER, created_at_ms=WallMs(0), created_by="ann"
        )

    tokens = (view("ci", "aaaa"), view("bbbb", "cccc"), view("x", "bbbb"))
    for text in ("ci", "aaaa", "orca-api-aaaa-" + "b" * 52):
        assert find_api_token(text, tokens).name == "ci"
    with pytest.raises(AmbiguousNameError):
        find_api_token("bbbb", tokens)
    with pytest.raises(NotFoundError):
        find_api_token("nope", tokens)


def test_a_token_file_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "ORCA_TOKEN_FILE": str(tmp_path / "none")})
    assert run(["status", "--node", "127.0.0.1:1"]) == 2
    assert "none cannot be read" in capsys.readouterr().err
