"""Tokens, leaving, removing and the CA on the command line, against a node's API on a real socket."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest

from orca.model.trust_view import AuthoritiesReply, NodeRemoval, TokenReply, TokensReply
from tests.node.api.control import FakeControl
from tests.node.api.raw import serving
from tests.node.api.trust import MADE
from tests.orca.cli.test_cli import orca

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
async def node(control: FakeControl) -> AsyncGenerator[str, None]:
    async with serving(control) as addresses:
        host, port = addresses.tcp[0]
        yield f"{host}:{port}"


async def test_a_token_is_made_listed_and_revoked(node: str, control: FakeControl) -> None:
    made = await orca(node, "token", "create", "--uses", "2", "--role", "worker", "--ttl", "30m", "--note", "rack 7")
    assert made.returncode == 0, made.stderr
    assert made.stdout.decode().splitlines()[0] == MADE
    assert b"orca join 127.0.0.1:6881" in made.stdout
    reply = msgspec.json.decode((await orca(node, "token", "create", "--json")).stdout, type=TokenReply)
    assert (reply.token, reply.uses, reply.role.value) == (MADE, 1, "member")
    listed = (await orca(node, "token", "ls")).stdout.decode()
    assert "rack 7" in listed
    assert "worker" in listed
    assert MADE not in listed
    found = msgspec.json.decode((await orca(node, "token", "ls", "--json")).stdout, type=TokensReply)
    assert [one.uses_left for one in found.tokens] == [2, 1]
    gone = await orca(node, "token", "revoke", str(found.tokens[0].id))
    assert gone.returncode == 0
    assert len(control.trust.made) == 1
    assert (await orca(node, "token", "revoke", "nothing")).returncode == 3


@pytest.mark.parametrize(
    "args",
    [("token",), ("token", "make"), ("token", "ls", "--uses", "2"), ("token", "create", "--ttl", "soon"),
     ("nodes", "--force"), ("nodes", "rm"), ("nodes", "remove", "n2"), ("ca", "burn")],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused_before_anything_is_asked(node: str, args: tuple[str, ...]) -> None:
    done = await orca(node, *args)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith(b"error: ")


async def test_a_node_is_removed_by_name(node: str) -> None:
    refused = await orca(node, "nodes", "rm", "n2")
    assert refused.returncode == 4
    assert b"drain it first" in refused.stderr
    done = await orca(node, "nodes", "rm", "n2", "--force")
    assert done.returncode == 0
    assert b"n2 (n-2) is no node of this cluster any more" in done.stdout
    as_json = await orca(node, "nodes", "rm", "n2", "--force", "--json")
    assert msgspec.json.decode(as_json.stdout, type=NodeRemoval).notes == ("gone",)
    assert (await orca(node, "nodes", "rm", "n9", "--force")).returncode == 3


async def test_a_node_leaves_when_it_may(node: str, control: FakeControl) -> None:
    refused = await orca(node, "leave")
    assert refused.returncode == 4
    assert b"only node" in refused.stderr
    assert (await orca(node, "leave", "--force")).returncode == 0
    assert control.trust.has_left


async def test_the_authority_is_shown_and_changed(node: str) -> None:
    shown = await orca(node, "ca")
    assert b"signing" in shown.stdout
    assert (await orca(node, "ca", "show", "--ingress")).stdout == b"-----BEGIN CERTIFICATE-----\nof the ingress\n"
    assert (await orca(node, "ca", "rotate", "--ingress")).stdout == b"-----BEGIN CERTIFICATE-----\nthe next one\n"
    as_json = await orca(node, "ca", "rotate", "--json")
    assert msgspec.json.decode(as_json.stdout, type=AuthoritiesReply).authorities[0].nodes == 1


def join(directory: Path, *args: str, token: str = "") -> "subprocess.CompletedProcess[str]":
    """`orca join` that must end before it reaches anybody."""
    command = [sys.executable, "-m", "orca", "join", *args, "--data-dir", str(directory / "data")]
    environment = {**os.environ, "ORCA_JOIN_TOKEN": token}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_a_join_without_a_token_says_where_one_comes_from(tmp_path: Path) -> None:
    done = join(tmp_path, "127.0.0.1:1")
    assert done.returncode == 2
    assert "ORCA_JOIN_TOKEN" in done.stderr
    assert "orca token create" in done.stderr
    assert not (tmp_path / "data").exists(), "nothing was made"


def test_a_join_with_two_tokens_or_a_wrong_one_or_no_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("orca-secret-looking-thing\n")
    for args, words in (
        (("--token", MADE, "--token-file", str(file)), "give the token once"),
        (("--token-file", str(file)), "no join token"),
        (("--token-file", str(tmp_path / "none")), "cannot be read"),
    ):
        done = join(tmp_path, "127.0.0.1:1", *args)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "secret-looking" not in done.stdout + done.stderr
    assert not (tmp_path / "data").exists()
