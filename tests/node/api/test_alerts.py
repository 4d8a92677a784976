"""Alerts by HTTP: from events to what the client gets."""

import msgspec
import pytest

from node.api.server import ApiListen
from orca.client import NodeAddress, NodeClient, open_client
from orca.model.alert import AlertRule, AlertState
from orca.model.event import EventKind
from orca.model.ids import AllocationId, ServiceId
from orca.model.trust import ApiRole
from orca.model.units import WallMs
from tests.node.api.control import COPY, WEB, FakeControl, event
from tests.node.api.raw import ask, serving

pytestmark = pytest.mark.integration
PAY = ServiceId("bank/pay")


def crashing(control: FakeControl, service: ServiceId, copy: AllocationId) -> None:
    """Three restarts of a copy, just now."""
    now = control.observation().at_ms
    for _ in range(3):
        number = len(control.recorded) + 1
        one = event(number, service, EventKind.ALLOCATION_RESTARTING)
        control.recorded.append(
            msgspec.structs.replace(one, at_ms=WallMs(now), allocation=copy, message="x: exit code 1; again in 1 s")
        )


async def test_what_is_wrong_is_told_with_what_to_do_and_what_is_over_only_when_asked_for() -> None:
    control = FakeControl()
    crashing(control, WEB, COPY)
    async with serving(control, ApiListen(host="127.0.0.1")) as addresses:
        host, port = addresses.tcp[0]
        async with open_client(NodeAddress(host=host, port=port)) as client:
            (alert,) = (await client.alerts()).alerts
            assert (alert.rule, alert.service) == (AlertRule.CRASH_LOOP, WEB)
            assert alert.quotes == ("x: exit code 1; again in 1 s",)
            assert (await client.alerts(service=PAY)).alerts == ()
            await over(control, client)


async def over(control: FakeControl, client: NodeClient) -> None:
    ended = event(len(control.recorded) + 1, WEB, EventKind.SERVICE_REMOVED)
    control.recorded.append(msgspec.structs.replace(ended, at_ms=control.observation().at_ms))
    assert (await client.alerts()).alerts == ()
    (alert,) = (await client.alerts(has_resolved=True)).alerts
    assert alert.state is AlertState.RESOLVED


async def test_a_token_of_one_project_sees_no_alert_of_another() -> None:
    control = FakeControl()
    crashing(control, WEB, COPY)
    crashing(control, PAY, AllocationId("bbbbbbbbbbbb"))
    token = control.access.add("ci", ApiRole.VIEWER, "bank").text
    async with serving(control, ApiListen(host="127.0.0.1")) as addresses:
        answer = await ask(addresses.tcp[0], "GET", "/v1/alerts", None, authorization=f"Bearer {token}")
    assert answer.status == 200
    assert b"bank/pay" in answer.body
    assert b"default/web" not in answer.body
