"""Figures over time by HTTP, and what `orca stats --since` makes of them."""

from collections.abc import AsyncGenerator

import msgspec
import pytest

from node.figures.subjects import copy_subject, service_subject
from orca.cli.series import sparkline
from orca.model.ids import AllocationId, ServiceId
from orca.model.series import SeriesPoint, SeriesReply
from orca.model.trust import ApiRole, Author
from orca.model.view import DeployRequest
from tests.node.api.control import COPY, NODE, WEB, FakeControl, spec
from tests.node.api.raw import Answer, ask, serving
from tests.orca.cli.test_cli import orca

pytestmark = pytest.mark.integration
PAY = ServiceId("bank/pay")


@pytest.fixture
async def control() -> FakeControl:
    made = FakeControl()
    await made.deploy(DeployRequest(specs=(spec("web"), spec("pay", project="bank"))), by=Author(actor="test"))
    web, pay = copy_subject(WEB, 0, COPY), copy_subject(PAY, 0, AllocationId("bbbb"))
    made.recorder.record(
        0,
        {
            f"cpu_milli {web}": 250.0,
            f"memory_bytes {web}": 2.0**20,
            f"cpu_milli {pay}": 1.0,
            f"answers_per_s {service_subject(WEB)}": 12.5,
            "node_cpu_share node": 0.25,
        },
    )
    return made


@pytest.fixture
async def address(control: FakeControl) -> AsyncGenerator[tuple[str, int], None]:
    async with serving(control, trusts_loopback=False) as addresses:
        yield addresses.tcp[0]


def read(answer: Answer) -> SeriesReply:
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body, type=SeriesReply)


async def test_figures_are_of_copies_of_services_or_of_nodes(address: tuple[str, int], control: FakeControl) -> None:
    by = {"authorization": f"Bearer {control.access.add('ops', ApiRole.VIEWER).text}"}
    copies = read(await ask(address, "GET", "/v1/series?service=default/web", None, **by))
    assert [(one.figure, one.allocation, one.slot, one.node) for one in copies.series] == [
        ("cpu_milli", COPY, 0, NODE), ("memory_bytes", COPY, 0, NODE)
    ]  # fmt: skip
    assert copies.step_s == 60
    one = read(await ask(address, "GET", "/v1/series?of=services&figure=answers_per_s", None, **by)).series
    assert [(view.service, view.points) for view in one] == [(WEB, (SeriesPoint(0, 12.5, 12.5),))]
    nodes = read(await ask(address, "GET", "/v1/series?of=nodes&since_s=60", None, **by))
    assert [view.figure for view in nodes.series] == ["node_cpu_share"]
    assert nodes.step_s == 1
    wrong = await ask(address, "GET", "/v1/series?since_s=60&until_s=60", None, **by)
    assert wrong.status == 400


async def test_a_token_of_one_project_sees_figures_of_it_and_none_of_nodes(
    address: tuple[str, int], control: FakeControl
) -> None:
    by = {"authorization": f"Bearer {control.access.add('ci', ApiRole.VIEWER, 'bank').text}"}
    seen = read(await ask(address, "GET", "/v1/series", None, **by))
    assert [one.service for one in seen.series] == [PAY]
    assert (await ask(address, "GET", "/v1/series?of=nodes", None, **by)).status == 403
    assert (await ask(address, "GET", "/v1/series?service=default/web", None, **by)).status == 403


async def test_they_are_drawn_on_the_command_line(control: FakeControl) -> None:
    async with serving(control) as addresses:
        node = "{}:{}".format(*addresses.tcp[0])
        done = await orca(node, "stats", "--since", "1h")
        assert done.returncode == 0, done.stderr
        assert "0.25" in done.stdout.decode()
        assert "1.0 MiB" in done.stdout.decode()
        assert "25.0%" in (await orca(node, "stats", "--since", "10m", "--nodes")).stdout.decode()
        assert "12.5" in (await orca(node, "stats", "--since", "1h", "--traffic", "web")).stdout.decode()
        assert (
            "nothing was noted" in (await orca(node, "stats", "--since", "1h", "--traffic", "bank/pay")).stdout.decode()
        )
        found = msgspec.json.decode((await orca(node, "stats", "--since", "1h", "--json")).stdout, type=SeriesReply)
        assert len(found.series) == 3
        for wrong in (
            ("--nodes",),
            ("--since", "8d"),
            ("--since", "1h", "--watch"),
            ("--since", "1h", "--nodes", "web"),
        ):
            assert (await orca(node, "stats", *wrong)).returncode == 2, wrong


def test_a_picture_ends_now_and_leaves_gaps() -> None:
    points = [SeriesPoint(100 + step, value, value) for step, value in ((0, 1.0), (1, 8.0), (3, 4.0))]
    assert sparkline(points, 1, 104, 6) == " ▂█ ▅ "
    assert sparkline([], 60, 0, 3) == "   "
    assert sparkline([SeriesPoint(0, 0.0, 0.0)], 60, 59, 2) == " ▁"
