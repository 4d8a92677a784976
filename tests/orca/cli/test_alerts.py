"""`orca alerts` on the command line, against a node's API on a real socket."""

from collections.abc import AsyncGenerator

import pytest

from orca.model.trust import Author
from orca.model.view import DeployRequest
from tests.node.api.control import COPY, WEB, FakeControl, spec
from tests.node.api.raw import serving
from tests.node.api.test_alerts import LOOP, crashing
from tests.orca.cli.test_cli import orca

pytestmark = pytest.mark.integration


@pytest.fixture
async def control() -> FakeControl:
    made = FakeControl()
    made.admitted.at_ms = made.observation().at_ms
    await made.deploy(DeployRequest(specs=(spec("web"),)), by=Author(actor="test"))
    crashing(made, WEB, COPY)
    return made


@pytest.fixture
async def node(control: FakeControl) -> AsyncGenerator[str, None]:
    async with serving(control) as addresses:
        host, port = addresses.tcp[0]
        yield f"{host}:{port}"


async def told(node: str, *args: str, code: int = 0) -> str:
    done = await orca(node, "alerts", *args)
    assert done.returncode == code, (done.stdout, done.stderr)
    return (done.stdout + done.stderr).decode()


async def test_an_alert_is_listed_shown_explained_seen_to_and_resolved(node: str) -> None:
    assert "firing" in await told(node)
    assert await told(node, "ls") == await told(node)
    shown = await told(node, "show", "web")
    assert "possible causes:" in shown
    assert await told(node, "web") == shown, "a name alone shows it"
    explained = await told(node, "explain", LOOP)
    assert explained.startswith(shown)
    assert "fires at the third allocation.restarting" in explained
    assert "somebody sees to it" in await told(node, "ack", "web", "--reason", "on it")
    assert "acknowledged" in await told(node)
    assert "on it" in await told(node, "show", LOOP)
    assert "is over" in await told(node, "resolve", LOOP)
    assert "no alerts" in await told(node)
    assert "resolved" in await told(node, "ls", "--all")


async def test_a_silence_is_made_listed_and_ended(node: str, control: FakeControl) -> None:
    await told(node, "silence", "--rule", "crash-loop", "--for", "2h", "--reason", "moving house")
    assert "silenced" in await told(node)
    listed = await told(node, "silences")
    assert "rule crash-loop" in listed
    assert "in 2h" in listed
    (made,) = control.alerts.silences()
    assert "is over" in await told(node, "unsilence", made.id)
    assert "nothing is silenced" in await told(node, "silences")
    await told(node, "unsilence", made.id, code=3)


@pytest.mark.parametrize(
    "args",
    [("silence", "web"), ("silence", "web", "--for", "2h"), ("silence", "--rule", "x", "--for", "2h", "-m", "x"),
     ("ack",), ("ls", "web"), ("show", "a", "b"), ("ls", "--for", "2h"), ("silence", "--for", "2h", "-m", "x")],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused(node: str, control: FakeControl, args: tuple[str, ...]) -> None:
    assert "error" in await told(node, *args, code=2)
    assert control.alerts.silences() == ()
    assert control.alerts.marks == {}


@pytest.mark.parametrize(
    "args",
    [("notify", "add"), ("notify", "make", "x"), ("notify", "rm"), ("notify", "ls", "--severity", "error"),
     ("notify", "add", "ops", "json://x", "--severity", "bad"), ("notify", "add", "ops", "nonsense"),
     ("notify", "add", "ops", "@/nowhere"), ("notify", "add", "a b", "json://x"), ("ls", "--severity", "error")],
)  # fmt: skip
async def test_a_channel_that_makes_no_sense_is_refused(node: str, control: FakeControl, args: tuple[str, ...]) -> None:
    assert "error" in await told(node, *args, code=2)
    assert control.channels.list().channels == ()


async def test_who_is_told_of_nothing_hears_how_that_changes(node: str) -> None:
    assert "orca alerts notify add" in await told(node, "notify")
    assert "there is no channel 'ops'" in await told(node, "notify", "test", "ops", code=3)
    await told(node, "notify", "rm", "ops", code=3)
