"""The life of a Wasm service by `curl` alone, over TCP and over the unix socket, as the API's document has it."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.integration.node import Node, until
from tests.integration.services import HELLO_WAT
from tests.node.runtime.wasm.guests import answer

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing (apt install curl)")

NEWER_WAT = answer("content-type: text/plain\n\nnewer\n")


class Said(NamedTuple):
    """What curl got."""

    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Curl:
    """`curl` against one door of a node; remembers each method and path that it used."""

    def __init__(self, node: Node, door: str) -> None:
        socket = ("--unix-socket", str(node.data / "api.sock"))
        self._door = socket if door == "unix" else ()
        self._url = "http://localhost" if door == "unix" else f"http://127.0.0.1:{node.api}"
        self.used: list[tuple[str, str]] = []

    def __call__(self, method: str, path: str, *options: str, content: bytes | None = None) -> Said:
        self.used.append((method.lower(), path.partition("?")[0]))
        given = () if content is None else ("--data-binary", "@-")
        how = ("-X", method, *self._door, *options, *given, "-w", "\n%{http_code}")
        done = subprocess.run(
            ["curl", "-sS", "--max-time", "30", *how, self._url + path], input=content, capture_output=True, check=True
        )
        body, _, status = done.stdout.rpartition(b"\n")
        return Said(int(status), body)

    def begun(self, path: str) -> bytes:
        """What comes of an answer without an end within two seconds."""
        command = ["curl", "-sSN", "--max-time", "2", *self._door, self._url + path]
        return subprocess.run(command, capture_output=True, check=False).stdout

    def json(self, method: str, path: str, content: Any) -> Said:
        return self(method, path, "-H", "content-type: application/json", content=json.dumps(content).encode())


class Life:
    """One service, by curl alone."""

    def __init__(self, node: Node, door: str) -> None:
        self.curl = Curl(node, door)
        self.name = f"{door}/curled"
        self.path = f"/v1/services/{self.name}"

    def spec(self, content: str, replicas: int) -> Any:
        """A service for the body of a deploy; its module is named by its hash."""
        return {
            "name": "curled",
            "project": self.name.partition("/")[0],
            "source": {"type": "wasm", "module": digest_of(content), "name": "curled.wat"},
            "ports": [{"port": 80}],
            "routes": [{"path": "/curled"}],
            "replicas": replicas,
            "readiness": {"check": {"type": "http", "path": "/"}, "interval_s": 1},
        }

    def change(self, verb: str, content: Any = None) -> Said:
        """`POST …/VERB`, with a body only where there is something to say."""
        path = f"{self.path}/{verb}"
        return self.curl("POST", path) if content is None else self.curl.json("POST", path, content)

    def accepted(self, said: Said, action: str, revision: int) -> None:
        assert said.status in {200, 202}, said.body
        assert said.json()["changes"] == [{"service": self.name, "action": action, "revision": revision}]
        assert set(said.json()["observation"]) == {"observer", "at_ms", "state_revision", "age_ms"}

    def settled(self, is_so: Callable[[Any], bool]) -> Any:
        """The service's view once its rollout is over and it `is_so`."""

        def found() -> Any:
            view = self.curl("GET", self.path).json()["service"]
            return view if view["rollout"]["state"] == "completed" and is_so(view) else None

        return until(found, f"{self.name} comes to rest")

    def revisions(self) -> list[tuple[int, bool]]:
        found = self.curl("GET", f"{self.path}/history").json()["revisions"]
        return [(one["revision"], one["is_current"]) for one in found]

    def is_read_by_every_path(self) -> None:
        """What people look at: the whole, its copies, their figures, their output, and what happened."""
        status = self.curl("GET", "/v1/status").json()
        assert self.name in [one["id"] for one in status["services"]]
        query = f"?service={self.name}"
        copies = self.curl("GET", f"/v1/allocations{query}").json()["allocations"]
        running = {one["id"] for one in copies if one["desired"] == "running"}
        assert running == {one["allocation"] for one in self.curl("GET", f"/v1/stats{query}").json()["stats"]}
        assert self.curl("GET", f"/v1/logs{query}").status == 200
        events = self.curl("GET", f"/v1/events{query}&limit=1000").json()["events"]
        assert {"service.deployed", "allocation.ready"} <= {one["kind"] for one in events}
        assert b"event: " in self.curl.begun(f"/v1/events{query}&follow=1&after=0")
        one = running.pop()
        assert (
            self.curl.begun(f"/v1/logs?allocation={one}&follow=1")
            == self.curl("GET", f"/v1/logs?allocation={one}").body
        )

    def end(self) -> None:
        newest = self.revisions()[0][0]
        self.accepted(self.curl("DELETE", self.path), "remove", newest)
        until(lambda: self.curl("GET", self.path).status == 404, "it is gone")


def digest_of(content: str) -> str:
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def ready_ids(view: Any) -> set[str]:
    return {one["id"] for one in view["allocations"] if one["is_ready"]}


def is_full(view: Any) -> bool:
    return bool(view["ready"] == view["replicas"])


@pytest.mark.parametrize("door", ["tcp", "unix"])
def test_service_lives_its_whole_life_by_curl(wasm_node: Node, door: str) -> None:
    node, life = wasm_node, Life(wasm_node, door)
    curl, accepted, settled = life.curl, life.accepted, life.settled

    missing = curl.json("POST", "/v1/deploys", {"specs": [life.spec(f"{HELLO_WAT};; unknown", 1)]})
    assert missing.status == 400
    assert "PUT /v1/blobs" in missing.json()["error"]["message"]
    for wat in (HELLO_WAT, NEWER_WAT):
        put = curl("PUT", f"/v1/blobs/{digest_of(wat)}", content=wat.encode())
        assert put.status in {200, 201}, put.body
    deploy: Any = {"specs": [life.spec(HELLO_WAT, 2)]}
    (planned,) = curl.json("POST", "/v1/plan", deploy).json()["services"]
    assert (planned["service"], planned["action"]) == (life.name, "create")
    assert curl("GET", life.path).status == 404
    accepted(curl.json("POST", "/v1/deploys", deploy), "create", 1)
    settled(is_full)
    assert node.through_proxy("/curled").text == "module\n"

    for _ in range(2):  # a retry under the same id changes nothing
        accepted(life.change("scale", {"replicas": 3, "request_id": f"{door}-scale"}), "update", 2)
    before = ready_ids(settled(lambda view: view["ready"] == 3))
    accepted(life.change("restart"), "update", 3)
    settled(lambda view: is_full(view) and not before & ready_ids(view))

    deploy = {"specs": [life.spec(NEWER_WAT, 3)], "note": "newer"}
    (planned,) = curl.json("POST", "/v1/plan", deploy).json()["services"]
    assert (planned["action"], planned["replaces_copies"]) == ("update", True)
    assert [one["key"] for one in planned["fields"]] == ["source.module"]
    accepted(curl.json("POST", "/v1/deploys", deploy), "update", 4)
    settled(is_full)
    life.is_read_by_every_path()
    assert node.through_proxy("/curled").text == "newer\n"

    accepted(life.change("rollback", {"revision": 1}), "update", 5)
    settled(is_full)
    assert node.through_proxy("/curled").text == "module\n"
    assert life.revisions() == [(5, True), (4, False), (3, False), (2, False), (1, False)]

    accepted(life.change("stop"), "update", 5)
    settled(lambda view: view["is_stopped"] and not ready_ids(view))
    until(lambda: node.through_proxy("/curled").status == 503, "nobody answers")
    accepted(life.change("start", {}), "update", 5)
    settled(is_full)
    assert node.through_proxy("/curled").text == "module\n"

    life.end()
    assert life.change("stop").json()["error"]["code"] == "not_found"
    assert node.through_proxy("/curled").status == 404
    assert_documented(life)


def assert_documented(life: Life) -> None:
    """Each route of a service's life was used and is in the OpenAPI document, with an answer for success."""
    paths = life.curl("GET", "/v1/openapi.json").json()["paths"]
    service = "/v1/services/{project}/{name}"
    wanted = {("post", f"{service}/{verb}") for verb in ("scale", "stop", "start", "restart", "rollback")}
    wanted |= {("get", service), ("delete", service), ("get", f"{service}/history")}
    wanted |= {("post", "/v1/plan"), ("post", "/v1/deploys"), ("put", "/v1/blobs/{digest}")}
    used = {(method, path.replace(life.name, "{project}/{name}")) for method, path in life.curl.used}
    used = {(method, "/v1/blobs/{digest}" if path.startswith("/v1/blobs/") else path) for method, path in used}
    assert wanted <= used
    for method, path in sorted(wanted):
        assert {"200", "201", "202"} & set(paths[path][method]["responses"]), f"{method} {path}"


def test_curl_is_told_what_is_wrong_with_its_request(wasm_node: Node) -> None:
    curl = Curl(wasm_node, "tcp")
    as_form = curl("POST", "/v1/services/a/b/scale", "-d", '{"replicas": 3}')
    assert as_form.status == 415
    assert "application/json" in as_form.json()["error"]["message"]
    toml = b'[[service]]\nname = "a"\nruntime = "wasm"\nmodule = "a.wat"\n'
    from_afar = curl("POST", "/v1/deploys", "-H", "content-type: application/toml", content=toml)
    assert from_afar.status == 422
    assert "a.wat" in from_afar.body.decode()
    wrong_way = curl("GET", "/v1/services/a/b/stop")
    assert (wrong_way.status, wrong_way.json()["error"]["code"]) == (405, "method_not_allowed")
    wrong_number = curl.json("POST", "/v1/services/a/b/scale", {"replicas": -1})
    assert (wrong_number.status, wrong_number.json()["error"]["code"]) == (400, "invalid_request")
    wrong_hash = curl("PUT", f"/v1/blobs/sha256:{'0' * 64}", content=b"something else")
    assert (wrong_hash.status, wrong_hash.json()["error"]["code"]) == (400, "invalid_request")
