"""Alerts by HTTP: from events to what the client gets."""

import msgspec
import pytest

from consensus.state.records import NoticeRecord, NoticeState, notice_key
from node.api.server import ApiListen
from orca.client import NodeAddress, NodeClient, open_client
from orca.errors import InvalidRequestError, NotFoundError
from orca.model.alert import AcknowledgeRequest, AlertRule, AlertState, ResolveRequest, SilenceRequest
from orca.model.event import EventKind, Severity
from orca.model.ids import AllocationId, ChannelName, ServiceId
from orca.model.trust import ApiRole, Author
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


LOOP = "crash-loop:default/web"


async def test_what_people_say_about_an_alert_is_in_the_answer() -> None:
    control = FakeControl()
    control.admitted.at_ms = control.observation().at_ms
    crashing(control, WEB, COPY)
    async with serving(control, ApiListen(host="127.0.0.1")) as addresses:
        host, port = addresses.tcp[0]
        async with open_client(NodeAddress(host=host, port=port)) as client:
            (alert,) = (
                await client.about_alerts.acknowledge(AcknowledgeRequest(alerts=(LOOP,), reason="on it"))
            ).alerts
            assert alert.acknowledged is not None
            assert alert.acknowledged.reason == "on it"
            with pytest.raises(NotFoundError, match="there are: crash-loop:default/web"):
                await client.about_alerts.resolve(ResolveRequest(alerts=("crash-loop:default/api",)))
            request = SilenceRequest(reason="moving", ttl_s=60, rule=AlertRule.CRASH_LOOP)
            (made,) = (await client.about_alerts.silence(request)).silences
            assert (await client.alerts()).alerts[0].silence == made == (await client.silences()).silences[0]
            await client.about_alerts.end_silence(made.id)
            assert (await client.silences()).silences == ()
            (over,) = (await client.about_alerts.resolve(ResolveRequest(alerts=(LOOP,)))).alerts
            assert over.state is AlertState.RESOLVED
            assert over.resolved_by is not None
            assert {one.rule for one in (await client.alert_rules()).rules} == set(AlertRule)


async def test_who_was_told_is_in_the_answer_for_who_sees_all_projects() -> None:
    control = FakeControl()
    crashing(control, WEB, COPY)
    state = NoticeState(is_firing=True, severity=Severity.ERROR, since_ms=WallMs(1))
    for name in ("ops", "mail"):
        channel = ChannelName(name)
        known = NoticeRecord(channel=channel, alert=LOOP, told=state)
        control.admitted.state.notices[notice_key(channel, LOOP)] = known
    every = control.access.add("ops", ApiRole.VIEWER).text
    limited = control.access.add("ci", ApiRole.VIEWER, "default").text
    async with serving(control, ApiListen(host="127.0.0.1")) as addresses:
        answer = await ask(addresses.tcp[0], "GET", "/v1/alerts", None, authorization=f"Bearer {every}")
        assert msgspec.json.decode(answer.body)["alerts"][0]["told"] == ["mail", "ops"]
        answer = await ask(addresses.tcp[0], "GET", "/v1/alerts", None, authorization=f"Bearer {limited}")
        assert "told" not in msgspec.json.decode(answer.body)["alerts"][0]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (SilenceRequest(reason="", ttl_s=60, rule=AlertRule.UNHEALTHY), InvalidRequestError),
        (SilenceRequest(reason="x", ttl_s=0, rule=AlertRule.UNHEALTHY), InvalidRequestError),
        (SilenceRequest(reason="x", ttl_s=60, node="nobody"), NotFoundError),
        (SilenceRequest(reason="x", ttl_s=60, service=PAY), NotFoundError),
        (SilenceRequest(reason="x", ttl_s=60), InvalidRequestError),
    ],
)
async def test_a_silence_that_makes_no_sense_is_refused(request_: SilenceRequest, error: type[Exception]) -> None:
    control = FakeControl()
    async with serving(control, ApiListen(host="127.0.0.1")) as addresses:
        host, port = addresses.tcp[0]
        async with open_client(NodeAddress(host=host, port=port)) as client:
            with pytest.raises(error):
                await client.about_alerts.silence(request_)
            assert (await client.silences()).silences == ()


async def test_a_token_of_one_project_says_nothing_about_the_alerts_and_silences_of_others() -> None:
    control = FakeControl()
    token = control.access.add("ci", ApiRole.DEPLOYER, "bank").text
    by = {"authorization": f"Bearer {token}"}
    made = await control.alerts.begin_silence(
        SilenceRequest(reason="x", ttl_s=60, rule=AlertRule.CRASH_LOOP), by=Author(actor="ann")
    )
    async with serving(control, ApiListen(host="127.0.0.1")) as addresses:
        for body in (
            b'{"reason":"x","ttl_s":60,"rule":"crash-loop"}',
            b'{"reason":"x","ttl_s":60,"project":"default"}',
        ):
            assert (await ask(addresses.tcp[0], "POST", "/v1/silences", body, **by)).status == 403
        for alert in ("node-failed:n2", LOOP):
            body = msgspec.json.encode(AcknowledgeRequest(alerts=(alert,)))
            assert (await ask(addresses.tcp[0], "POST", "/v1/alerts/ack", body, **by)).status == 403
        silence = f"/v1/silences/{made.silences[0].id}"
        assert (await ask(addresses.tcp[0], "DELETE", silence, None, **by)).status == 404
        assert b'"silences":[]' in (await ask(addresses.tcp[0], "GET", "/v1/silences", None, **by)).body
