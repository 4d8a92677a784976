"""One table says who may call what: it has every route, and every route obeys it."""

import re
from collections.abc import AsyncGenerator, Mapping

import msgspec
import pytest

from node.api.call import BodyKind, NoQuery, Route
from node.api.caller import Caller
from node.api.permissions import RULES, Scope, authorize
from node.api.routes import ROUTES
from node.selection import Placed
from orca.errors import ForbiddenError, NotLeaderError
from orca.model.ids import AllocationId, ServiceId
from orca.model.trust import ApiRole, Author
from orca.model.view import DeployRequest
from tests.node.api.control import COPY, NODE, FakeControl, event, spec
from tests.node.api.raw import Answer, Told, ask, serving

pytestmark = pytest.mark.integration
Address = tuple[str, int]
OTHERS_COPY = AllocationId("bbbbbbbbbbbb")
DIGEST = "sha256:" + "0" * 64
BODIES: Mapping[str, bytes] = {
    "/scale": b'{"replicas":1}',
    "/v1/gossip/events": b'{"name":"x"}',
    "/v1/api-tokens": b'{"id":"aaaa","name":"x","role":"viewer","secret_hash":"' + b"0" * 64 + b'"}',
}


def by_key(route: Route) -> str:
    return route.key


def test_the_table_has_every_route_and_nothing_else() -> None:
    assert set(RULES) == {route.key for route in ROUTES}


def test_what_nobody_listed_is_refused_to_an_admin_too() -> None:
    admin = Caller(actor="unix:0", origin="local", role=ApiRole.ADMIN)
    with pytest.raises(ForbiddenError, match="table of permissions"):
        authorize(admin, None, {}, NoQuery())


def test_only_what_gives_nothing_away_is_open_and_every_change_has_a_name_in_the_audit() -> None:
    assert {key for key, rule in RULES.items() if rule.role is None} == {
        "GET /healthz",
        "GET /",
        "GET /v1/openapi.json",
    }
    for key, rule in RULES.items():
        is_change = key.split()[0] not in {"GET", "HEAD"} and key != "POST /v1/plan"
        tells_of_itself = key.endswith("/exec") or key == "GET /v1/gossip/key"
        assert bool(rule.action) == (is_change or tells_of_itself), key
        assert not is_change or rule.role in {ApiRole.DEPLOYER, ApiRole.ADMIN}, key


@pytest.fixture
async def control() -> FakeControl:
    made = FakeControl()
    specs = (spec("web"), spec("pay", project="bank"))
    await made.deploy(DeployRequest(specs=specs), by=Author(actor="test"))
    await made.publish(event(1, ServiceId("default/web")), event(2, ServiceId("bank/pay")), event(3))
    made.placements = (
        Placed(allocation=OTHERS_COPY, service=ServiceId("bank/pay"), slot=0, node=NODE, is_started=True),
    )
    made.calls.clear()
    return made


@pytest.fixture
async def told() -> Told:
    return Told()


@pytest.fixture
async def address(control: FakeControl, told: Told) -> AsyncGenerator[Address, None]:
    async with serving(control, told=told, trusts_loopback=False) as addresses:
        yield addresses.tcp[0]


async def call(address: Address, route: Route, token: str, project: str = "default", name: str = "web") -> Answer:
    """One call of `route` that is right in everything but, perhaps, who makes it."""
    target = re.sub(r"\{project\}/\{name\}", f"{project}/{name}", route.path)
    target = target.replace("{digest}", DIGEST)
    target = target.replace("{id}", "zzzz" if "api-tokens" in target else COPY)
    target = target.replace("{token}", "zzzz").replace("{node}", "n2")
    target += {"/v1/builds": "?tag=x", f"/v1/allocations/{COPY}/exec": "?command=true"}.get(target, "")
    body: bytes | None = None
    media = "application/json"
    if route.path == "/v1/secrets" and route.method != "GET":
        body = f'{{"values":{{"{project}/db":"eA=="}}}}'.encode() if route.method == "PUT" else None
        target += f"?id={project}/db" if route.method == "DELETE" else ""
    elif route.path.startswith("/v1/locks"):
        target = target.replace("{project}", project)
        body = f'{{"projects":["{project}"]}}'.encode() if route.method == "POST" else None
    elif route.method == "POST" and "/v1/alerts/" in target:
        body = f'{{"alerts":["crash-loop:{project}/{name}"]}}'.encode()
    elif route.key == "PUT /v1/channels/{channel}":
        body = b'{"address":"json://127.0.0.1/x"}'
    elif route.key == "POST /v1/silences":
        body = f'{{"reason":"x","ttl_s":60,"service":"{project}/{name}"}}'.encode()
    elif route.path in {"/v1/deploys", "/v1/plan"}:
        body = msgspec.json.encode(DeployRequest(specs=(spec("new", project=project),)))
    elif route.body in {BodyKind.JSON, BodyKind.JSON_OR_EMPTY}:
        body = next((found for end, found in BODIES.items() if target.endswith(end)), b"{}")
    elif route.body is BodyKind.RAW:
        body, media = b"content", route.body_media[0]
    fields = {"content_type": media} if body is not None else {}
    if target.endswith("watch"):
        fields["accept"] = "text/event-stream"
        target += "?bogus=1"  # it would never end: a wrong parameter is told only to who may call at all
    return await ask(address, route.method, target, body, authorization=f"Bearer {token}", **fields)


REFUSED = {401, 403}


@pytest.mark.parametrize("route", ROUTES, ids=by_key)
async def test_each_role_may_do_what_the_table_says_and_no_more(
    address: Address, control: FakeControl, route: Route
) -> None:
    rule = RULES[route.key]
    ranks = {ApiRole.VIEWER: 1, ApiRole.DEPLOYER: 2, ApiRole.ADMIN: 3}
    for role in ApiRole:
        token = control.access.add(f"{role.value}x", role).text
        may = rule.role is None or ranks[role] >= ranks[rule.role]
        before = list(control.calls)
        answer = await call(address, route, token)
        assert (answer.status not in REFUSED) == may, (role, answer)
        if not may:
            assert control.calls == before
    for wrong in ("", "orca-api-nope-" + "a" * 52, "orca-api-viewerx-" + "a" * 52, "x" * 3000):
        answer = await call(address, route, wrong)
        assert (answer.status == 401) == (rule.role is not None), (wrong, answer)
        if rule.role is not None:
            assert answer.headers["www-authenticate"].startswith('Bearer realm="orca"')


@pytest.mark.parametrize("route", ROUTES, ids=by_key)
async def test_a_token_of_one_project_neither_sees_nor_touches_another(
    address: Address, control: FakeControl, route: Route
) -> None:
    rule = RULES[route.key]
    token = control.access.add("ci", ApiRole.DEPLOYER, "default").text
    if rule.scope in {Scope.PATH, Scope.SPECS}:
        before = list(control.calls)
        foreign = await call(address, route, token, "bank", "pay")
        assert foreign.status == 403, foreign
        assert control.calls == before
        assert "bank" not in str(foreign.error().get("hint", ""))
    if rule.scope is Scope.CLUSTER:
        assert (await call(address, route, token)).status == 403
    answer = await call(address, route, token)
    if rule.role in {ApiRole.VIEWER, ApiRole.DEPLOYER} and rule.scope is not Scope.CLUSTER:
        assert answer.status not in REFUSED, answer
    assert b"bank" not in answer.body
    assert OTHERS_COPY.encode() not in answer.body


async def test_lists_hold_what_is_of_the_callers_projects_only(address: Address, control: FakeControl) -> None:
    ci = {"authorization": f"Bearer {control.access.add('ci', ApiRole.VIEWER, 'default').text}"}
    every = {"authorization": f"Bearer {control.access.add('ops', ApiRole.VIEWER).text}"}
    for target, seen, unseen in (
        ("/v1/status", b"default/web", b"bank/pay"),
        ("/v1/services", b"default/web", b"bank/pay"),
        ("/v1/events", b"event 1", b"event 2"),
        ("/v1/events?everywhere=true", b"event 1", b"event 2"),
        ("/v1/stats", b"default/web", b"bank/pay"),
    ):
        limited = await ask(address, "GET", target, None, **ci)
        assert (limited.status, seen in limited.body, unseen in limited.body) == (200, True, False), limited
        whole = await ask(address, "GET", target, None, **every)
        assert seen in whole.body
        assert unseen in whole.body
    for target in (
        "/v1/services?project=bank",
        "/v1/events?service=bank/pay",
        "/v1/logs?service=bank/pay",
        "/v1/stats?service=bank/pay",
        "/v1/watch?service=default/web&service=bank/pay",
        "/v1/allocations?service=bank/pay",
    ):
        assert (await ask(address, "GET", target, None, **ci)).status == 403, target
    # A copy of a project that is not his looks like one that does not exist.
    for target in (f"/v1/logs?allocation={OTHERS_COPY}", f"/v1/stats?allocation={OTHERS_COPY}"):
        assert (await ask(address, "GET", target, None, **ci)).status == 404, target


async def test_an_exec_in_a_copy_of_another_project_finds_nothing(address: Address, control: FakeControl) -> None:
    token = control.access.add("ci", ApiRole.DEPLOYER, "default").text
    fields = {
        "authorization": f"Bearer {token}", "upgrade": "websocket", "connection": "upgrade",
        "sec_websocket_version": "13", "sec_websocket_key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    answer = await ask(address, "GET", f"/v1/allocations/{OTHERS_COPY}/exec?command=sh", None, **fields)
    assert answer.status == 404
    assert not control.calls


async def test_a_deploy_that_touches_a_foreign_project_is_refused_whole(address: Address, control: FakeControl) -> None:
    token = control.access.add("ci", ApiRole.DEPLOYER, "default", "shop").text
    specs = (spec("a"), spec("b", project="shop"), spec("c", project="bank"))
    known = dict(control.specs)
    for body in (DeployRequest(specs=specs), DeployRequest(specs=specs, prune=True)):
        answer = await ask(address, "POST", "/v1/deploys", msgspec.json.encode(body), authorization=f"Bearer {token}")
        assert (answer.status, answer.error()["code"]) == (403, "forbidden")
        assert "'bank'" in answer.body.decode()
    assert control.specs == known
    toml = b'[[service]]\nname = "c"\nimage = "c:1"\n[[service.files]]\npath = "/x"\ncontent = "y"\n'
    answer = await ask(
        address,
        "POST",
        "/v1/deploys?project=bank",
        toml,
        authorization=f"Bearer {token}",
        content_type="application/toml",
    )
    assert answer.status == 403
    assert not control.blobs


async def test_refusals_of_changes_are_told_to_the_audit_and_those_of_reads_are_not(
    address: Address, control: FakeControl, told: Told
) -> None:
    token = control.access.add("eve", ApiRole.VIEWER, "default").text
    await ask(address, "GET", "/v1/services?project=bank", authorization=f"Bearer {token}")
    await ask(address, "POST", "/v1/services/default/web/stop", authorization=f"Bearer {token}")
    await ask(address, "DELETE", "/v1/services/default/web")
    await ask(address, "POST", "/v1/services/default/nope/stop", authorization=f"Bearer {ops(control)}")
    await told.wait(3)
    assert [(one.actor, one.action, one.subject, one.result) for one in told.deeds] == [
        ("token:eve", "stop_service", "default/web", "forbidden"),
        ("", "remove_service", "default/web", "unauthorized"),
        ("token:ops", "stop_service", "default/nope", "not_found"),
    ]
    assert all(one.origin.startswith("tcp:127.0.0.1:") for one in told.deeds)


async def test_what_no_command_of_the_log_tells_of_is_told_when_it_is_done(
    address: Address, control: FakeControl, told: Told
) -> None:
    for target, body in (("/v1/gossip/pause", None), ("/v1/gossip/events", b'{"name":"x"}')):
        answer = await ask(address, "POST", target, body, authorization=f"Bearer {ops(control)}")
        assert answer.status < 300
    await told.wait(2)
    assert [(one.actor, one.action, one.result) for one in told.deeds] == [
        ("token:ops", "pause_gossip", "ok"),
        ("token:ops", "send_event", "ok"),
    ]


def ops(control: FakeControl) -> str:
    return control.access.add("ops", ApiRole.ADMIN).text


async def test_a_linearizable_read_asks_the_group_first_and_says_so_when_it_cannot(
    address: Address, control: FakeControl
) -> None:
    field = {"authorization": f"Bearer {ops(control)}"}
    assert (await ask(address, "GET", "/v1/services", None, **field)).status == 200
    assert not control.calls
    assert (await ask(address, "GET", "/v1/services?consistency=linearizable", None, **field)).status == 200
    assert control.calls == [("catch_up", "", None)]
    control.reject.append(NotLeaderError("no leader is known"))
    answer = await ask(address, "GET", "/v1/status?consistency=linearizable", None, **field)
    assert (answer.status, answer.error()["code"]) == (503, "not_leader")
    assert (await ask(address, "GET", "/v1/status?consistency=perhaps", None, **field)).status == 400
