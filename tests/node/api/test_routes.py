"""Every route by bytes on a socket: what it answers, and how it refuses."""

import hashlib
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest
import trio

from node.api.server import ApiListen
from orca.errors import AddressInUseError, OrcaError
from orca.http import listen_unix, unix_connector
from orca.model.ids import RequestId
from orca.model.trust import Author
from orca.model.view import ChangeRequest, DeployRequest, EventsReply, LogRecord, ServiceReply
from tests.node.api.control import NODE, WEB, FakeControl, event, spec
from tests.node.api.raw import ask, converse, make_api, parse, serving

pytestmark = pytest.mark.integration
Address = tuple[str, int]


@pytest.fixture
async def control() -> FakeControl:
    made = FakeControl()
    await made.deploy(DeployRequest(specs=(spec("web"),)), by=Author(actor="test"))
    made.calls.clear()
    return made


@pytest.fixture
async def address(control: FakeControl) -> AsyncGenerator[Address, None]:
    async with serving(control) as addresses:
        yield addresses.tcp[0]


READS = (
    "/v1/status",
    "/v1/node",
    "/v1/services",
    "/v1/services?project=default",
    "/v1/services/default/web",
    "/v1/services/default/web/history",
    "/v1/allocations",
    "/v1/allocations?service=default%2Fweb",
    "/v1/events?after=0&limit=5",
    "/v1/stats?service=default/web",
    "/v1/openapi.json",
)


@pytest.mark.parametrize("target", READS)
async def test_a_read_answers_json_and_head_answers_its_length_alone(address: Address, target: str) -> None:
    got = await ask(address, "GET", target)
    assert got.status == 200
    assert got.headers["content-type"] == "application/json"
    assert got.json()
    head = await ask(address, "HEAD", target)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", got.headers["content-length"])


async def test_health_and_page_are_served_without_anything_from_elsewhere(address: Address) -> None:
    assert (await ask(address, "GET", "/healthz")).body == b"ok\n"
    page = await ask(address, "GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert b"http://" not in page.body
    assert b"https://" not in page.body


@pytest.mark.parametrize("verb", ["stop", "start", "restart", "promote", "pause", "resume", "rollback"])
async def test_a_change_takes_an_empty_body_or_a_request_id(address: Address, control: FakeControl, verb: str) -> None:
    target = f"/v1/services/default/web/{verb}"
    assert (await ask(address, "POST", target)).status == 200
    assert (await ask(address, "POST", target, b'{"request_id":"r1"}')).status == 200
    assert [call[0] for call in control.calls] == [verb, verb]
    assert getattr(control.calls[1][2], "request_id") == "r1"  # noqa: B009 - the calls are objects


async def test_a_removed_node_answers_and_takes_no_command(address: Address, control: FakeControl) -> None:
    control.trust.removal = "n-test was removed from this cluster by ann"
    refused = await ask(address, "POST", "/v1/services/default/web/stop")
    assert (refused.status, refused.error()["code"]) == (403, "removed")
    assert "by ann" in str(refused.error()["message"])
    assert refused.error()["hint"]
    assert (await ask(address, "POST", "/v1/quorum/recover")).status == 403
    assert not control.calls
    assert (await ask(address, "GET", "/v1/status")).status == 200


async def test_a_change_names_its_actor_by_the_peer(address: Address, control: FakeControl) -> None:
    await ask(address, "POST", "/v1/services/default/web/stop")
    assert control.calls[0][1] == "loopback"


async def test_the_unix_socket_is_private_and_names_its_caller_by_uid(control: FakeControl, tmp_path: Path) -> None:
    path = tmp_path / ("deep" * 20) / ("deeper" * 10) / "api.sock"  # longer than a socket address holds
    path.parent.mkdir(parents=True)
    async with serving(control, ApiListen(socket_path=str(path))):
        assert path.stat().st_mode & 0o777 == 0o600
        async with await unix_connector(str(path))() as stream:
            await stream.send_all(
                b"POST /v1/services/default/web/stop HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n"
                b"Connection: close\r\n\r\n"
            )
            got = b""
            while piece := await stream.receive_some():
                got += piece
    assert parse(got).status == 200
    assert control.calls[0][1] == f"unix:{os.getuid()}"
    assert not path.exists()


async def test_a_stale_socket_is_replaced_and_a_live_one_is_not(control: FakeControl, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    async with serving(control, ApiListen(socket_path=str(path))):
        with pytest.raises(AddressInUseError, match="another process answers"):
            await listen_unix(str(path))


async def test_a_taken_port_is_named(address: Address, control: FakeControl) -> None:
    with pytest.raises(AddressInUseError, match=f"127.0.0.1:{address[1]}"):
        await make_api(control)[0].serve(ApiListen(host="127.0.0.1", port=address[1]))


async def test_scale_and_remove_change_the_service(address: Address, control: FakeControl) -> None:
    assert (await ask(address, "POST", "/v1/services/default/web/scale", b'{"replicas":3}')).status == 200
    assert control.specs[WEB].replicas == 3
    got = await ask(address, "DELETE", "/v1/services/default/web?request_id=r9")
    assert got.status == 200
    assert control.calls[-1][2] == ChangeRequest(request_id=RequestId("r9"))
    assert (await ask(address, "GET", "/v1/services/default/web")).error()["code"] == "not_found"


async def test_a_deploy_takes_json_toml_and_compose(address: Address, control: FakeControl) -> None:
    body = msgspec.json.encode(DeployRequest(specs=(spec("api"),)))
    assert (await ask(address, "POST", "/v1/deploys", body)).status == 202
    toml = b'[[service]]\nname = "db"\nimage = "db:1"\n'
    got = await ask(address, "POST", "/v1/deploys?project=shop", toml, content_type="application/toml")
    assert got.status == 202, got.body
    compose = b"services:\n  cache:\n    image: cache:1\n"
    got = await ask(address, "POST", "/v1/deploys?project=shop", compose, content_type="application/yaml")
    assert got.status == 202, got.body
    assert sorted(control.specs) == ["default/api", "default/web", "shop/cache", "shop/db"]


async def test_a_plan_changes_nothing(address: Address, control: FakeControl) -> None:
    body = msgspec.json.encode(DeployRequest(specs=(spec("api"),)))
    assert (await ask(address, "POST", "/v1/plan", body)).status == 200
    assert not control.calls


async def test_a_bad_service_file_is_answered_with_every_problem(address: Address) -> None:
    toml = b'[[service]]\nname = "db"\nimage = "db:1"\nreplica = 2\nbogus = 1\n'
    got = await ask(address, "POST", "/v1/plan?project=shop", toml, content_type="application/toml")
    assert got.status == 422
    assert got.error()["code"] == "invalid_spec"
    assert len(msgspec.convert(got.error()["problems"], list[dict[str, object]])) == 2


async def test_a_blob_is_kept_once_and_refused_under_another_name(address: Address, control: FakeControl) -> None:
    content = b"x" * 300_000
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert (await ask(address, "HEAD", f"/v1/blobs/{digest}")).status == 404
    assert (await ask(address, "PUT", f"/v1/blobs/{digest}", content)).status == 201
    assert (await ask(address, "PUT", f"/v1/blobs/{digest}", content)).status == 200
    assert (await ask(address, "HEAD", f"/v1/blobs/{digest}")).status == 200
    assert (await ask(address, "PUT", f"/v1/blobs/{digest}", b"other")).status == 400
    assert (await ask(address, "PUT", "/v1/blobs/sha256:12", b"other")).status == 400
    assert list(control.blobs.values()) == [content]


async def test_a_build_streams_its_lines_and_ends_with_the_image_or_the_error(
    address: Address, control: FakeControl
) -> None:
    got = await ask(address, "POST", "/v1/builds?tag=web:2&arg=A=1&arg=B=", b"tar", content_type="application/x-tar")
    lines = [msgspec.json.decode(line) for line in got.body.splitlines()]
    assert lines == [{"line": "building web:2"}, {"line": "read 3"}, {"image": "web:2"}]
    assert getattr(control.calls[0][2], "args") == {"A": "1", "B": ""}  # noqa: B009
    got = await ask(address, "POST", "/v1/builds?tag=x&target=broken", b"tar", content_type="application/x-tar")
    assert msgspec.json.decode(got.body.splitlines()[-1])["error"]["code"] == "runtime_failed"
    got = await ask(address, "POST", "/v1/builds?tag=x&arg=novalue", b"tar", content_type="application/x-tar")
    assert got.error()["code"] == "invalid_request"


async def test_logs_are_lines_of_json_and_a_failure_is_the_last_line(address: Address) -> None:
    got = await ask(address, "GET", "/v1/logs?service=default/web")
    assert got.headers["content-type"] == "application/x-ndjson"
    assert [msgspec.json.decode(line, type=LogRecord).text for line in got.body.splitlines()] == [
        "line 0",
        "line 1",
        "line 2",
    ]
    got = await ask(address, "GET", "/v1/logs?service=default/web&tail=1")
    assert msgspec.json.decode(got.body.splitlines()[-1])["error"]["code"] == "runtime_failed"
    got = await ask(address, "GET", "/v1/logs?service=default/nope")
    assert got.status == 404


async def test_ten_thousand_events_are_read_by_pages(address: Address, control: FakeControl) -> None:
    await control.publish(*(event(number) for number in range(1, 10_001)))
    seen: list[int] = []
    after = 0
    while True:
        got = await ask(address, "GET", f"/v1/events?after={after}&limit=1000")
        page = msgspec.json.decode(got.body, type=EventsReply)
        if not page.events:
            break
        seen += [found.sequence for found in page.events]
        after = page.last_sequence
    assert seen == list(range(1, 10_001))


REFUSALS = (
    ("GET", "/v1/service", None, 404, "not_found", "/v1/services"),
    ("GET", "/v1/services/default/nope", None, 404, "not_found", "default/nope"),
    ("PATCH", "/v1/services", None, 405, "method_not_allowed", "GET, HEAD"),
    ("GET", "/v1/deploys", None, 405, "method_not_allowed", "POST"),
    ("GET", "/v1/blobs/sha256:1", None, 405, "method_not_allowed", "HEAD, PUT"),
    ("GET", "/v1/events?limit=0", None, 400, "invalid_request", "limit"),
    ("GET", "/v1/events?limit=ten", None, 400, "invalid_request", "limit"),
    ("GET", "/v1/events?bogus=1", None, 400, "invalid_request", "after, before, limit, service, allocation, cluster"),
    ("GET", "/v1/events?after=1&after=2", None, 400, "invalid_request", "twice"),
    ("GET", "/v1/allocations?service=web", None, 400, "invalid_request", "service"),
    ("GET", "/v1/status?x=%zz", None, 400, "invalid_request", "hex digits"),
    ("GET", "/v1/status?x=%ff", None, 400, "invalid_request", "UTF-8"),
    ("GET", "/v1/services/%ff/web", None, 400, "invalid_request", "UTF-8"),
    ("GET", "/v1/allocations/aaaaaaaaaaaa/exec?command=sh", None, 426, "invalid_request", "WebSocket"),
    ("GET", "/v1/allocations/aaaaaaaaaaaa/exec", None, 400, "invalid_request", "command"),
    ("POST", "/v1/services/default/web/scale", b'{"replicas":"3"}', 400, "invalid_request", "replicas"),
    ("POST", "/v1/services/default/web/scale", b'{"replicas":-1}', 400, "invalid_request", "0 or more"),
    ("POST", "/v1/services/default/web/scale", b'{"replicas":3,"x":1}', 400, "invalid_request", "x"),
    ("POST", "/v1/services/default/web/scale", b'{"replicas":', 400, "invalid_request", "not JSON"),
    ("POST", "/v1/services/default/web/scale", b"", 400, "invalid_request", "not JSON"),
    ("POST", "/v1/services/default/web/scale", b'{"request_id":"\xff"}', 400, "invalid_request", "UTF-8"),
    ("POST", "/v1/services/default/web/scale", b'{"x":' + b"[" * 100_000, 400, "invalid_request", ""),
    ("POST", "/v1/deploys", b"[" * 300_000, 400, "invalid_request", ""),
    ("POST", "/v1/deploys", b'{"specs":[{"name":"a"}]}', 400, "invalid_request", "specs[0]"),
    ("GET", "/v1/watch", b"{}", 400, "invalid_request", "takes no body"),
    ("DELETE", "/v1/services/default/web", b"{}", 400, "invalid_request", "takes no body"),
    ("POST", "/v1/services/default/web/rollback", b'{"revision":99}', 409, "conflict", "99"),
)


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: f"{case[0]} {case[1][:40]} {case[5][:20]}")
async def test_a_wrong_request_is_refused_with_what_and_where(
    address: Address, control: FakeControl, case: tuple[str, str, bytes | None, int, str, str]
) -> None:
    method, target, body, status, code, word = case
    got = await ask(address, method, target, body)
    assert (got.status, got.error()["code"]) == (status, code), got.body
    assert word in got.body.decode()
    assert not control.calls
    if status == 405:
        assert got.headers["allow"] == word


@pytest.mark.parametrize("media", ["", "text/plain", "application/x-www-form-urlencoded"])
async def test_a_wrong_content_type_is_415_and_names_the_right_one(address: Address, media: str) -> None:
    got = await ask(address, "POST", "/v1/services/default/web/scale", b'{"replicas":3}', content_type=media)
    assert (got.status, got.error()["code"]) == (415, "unsupported_media_type")
    assert "application/json" in got.body.decode()


async def test_a_body_above_its_limit_is_413_whether_it_is_declared_or_not(address: Address) -> None:
    head = b"POST /v1/deploys HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    declared = parse(await converse(address, head + b"Content-Length: 9000000\r\n\r\n" + b"x" * 100_000))
    assert (declared.status, declared.error()["code"]) == (413, "payload_too_large")
    chunk = b"%x\r\n" % 2**20 + b"x" * 2**20 + b"\r\n"
    chunked = parse(await converse(address, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 10 + b"0\r\n\r\n"))
    assert (chunked.status, chunked.error()["code"]) == (413, "payload_too_large")


async def test_a_bug_is_answered_with_500_and_the_node_lives_on(address: Address, control: FakeControl) -> None:
    control.crash = KeyError("secret detail")
    got = await ask(address, "GET", "/v1/status")
    assert (got.status, got.error()["code"]) == (500, "internal")
    assert "secret detail" not in got.body.decode()
    control.crash = ExceptionGroup("nursery", [OrcaError("told")])
    assert (await ask(address, "GET", "/v1/status")).error()["message"] == "told"
    control.crash = None
    assert (await ask(address, "GET", "/v1/status")).status == 200


async def test_names_of_other_computers_are_refused_on_loopback(address: Address) -> None:
    for host in ("evil.example", "evil.example:6880", "localhost.evil.example", "10.1.2.3"):
        got = await ask(address, "GET", "/v1/status", host=host)
        assert (got.status, got.error()["code"]) == (403, "forbidden"), host
    for host in ("localhost", "localhost:1", "127.0.0.1", "127.1.2.3:6880", "[::1]:6880", "a.localhost"):
        assert (await ask(address, "GET", "/v1/status", host=host)).status == 200, host


async def test_a_configured_name_is_taken_on_loopback(control: FakeControl) -> None:
    async with serving(control, ApiListen(host="127.0.0.1", names=("Node.Example",))) as addresses:
        assert (await ask(addresses.tcp[0], "GET", "/v1/status", host="node.example:6880")).status == 200


async def test_pages_of_other_origins_change_nothing(address: Address, control: FakeControl) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        got = await ask(address, "POST", "/v1/services/default/web/stop", origin=origin)
        assert (got.status, got.error()["code"]) == (403, "forbidden"), origin
    target = "/v1/allocations/aaaaaaaaaaaa/exec?command=sh"
    got = await ask(address, "GET", target, origin="http://evil.example", upgrade="websocket")
    assert got.status == 403
    assert not control.calls
    own = f"http://{address[0]}:{address[1]}"
    assert (await ask(address, "POST", "/v1/services/default/web/stop", origin=own)).status == 200


async def test_connections_above_the_cap_are_told_and_the_others_served(control: FakeControl) -> None:
    async with serving(control, ApiListen(host="127.0.0.1", connections_max=1)) as addresses:
        address = addresses.tcp[0]
        async with await trio.open_tcp_stream(*address) as first:
            await first.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in await first.receive_some()
            got = await ask(address, "GET", "/v1/status")
            assert (got.status, got.error()["code"]) == (503, "not_available")
            await first.send_all(
                b"GET /v1/services/default/web HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            answer = b""
            async for piece in first:
                answer += piece
        assert msgspec.json.decode(parse(answer).body, type=ServiceReply).observation.observer == NODE
