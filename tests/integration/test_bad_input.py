"""Input that is cut off, too large or no text: precise words, the right codes, and the node lives."""

import json

import pytest

from tests.integration.node import Node, fetch

TOML = {"content-type": "application/toml"}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'[[service]]\nname = "web', ("service.toml:2",)),
        (b'[[service]]\nname = "web"\nimage = "\xff\xfe"\n', ("service.toml", "UTF-8")),
        (b'[[service]]\nname = "web"\nimage = "a"\nreplicsa = 2\n', ("service.toml:4", "replicsa", "replicas")),
        (b'[[service]]\nname = "web"\nimage = "a"\n[service.resources]\nmemory = "5 apples"\n', ("service.toml:5",)),
        (b'[[service]]\nname = "a"\nimage = "a"\n\n[[service]]\nname = "a"\nimage = "b"\n', ("service.toml", '"a"')),
        (b"", ("service.toml",)),
        (b"# " + b"x" * (9 << 20), ("service.toml",)),
    ],
    ids=["cut off", "no text", "unknown key", "wrong unit", "double name", "empty", "too large"],
)
def test_wrong_service_file_is_refused_with_its_place(wasm_node: Node, text: bytes, words: tuple[str, ...]) -> None:
    path = wasm_node.file("service.toml", text)
    for verb in ("deploy", "plan"):
        done = wasm_node.cli(verb, path)
        assert done.code == 2, str(done)[-2000:]
        assert "Traceback" not in done.err
        for word in words:
            assert word.replace('"', "") in done.err.replace('"', ""), str(done)[-2000:]
    assert json.loads(wasm_node.cli("--json", "plan", path).err or "{}") is not None
    assert wasm_node.get("/v1/services").json()["services"] == []


@pytest.mark.parametrize(
    ("body", "headers", "statuses"),
    [
        (b'{"specs": [', JSON, {400}),
        (b'{"specs": "\xff"}', JSON, {400}),
        (b'{"specs": 3}', JSON, {400, 422}),
        (b'{"specs": [], "sepcs": 1}', JSON, {400, 422}),
        (b"[" * 100_000, JSON, {400, 413}),
        (b" " * (64 << 20), JSON, {413}),
        (b'[[service]]\nname = "web', TOML, {422}),
        (b'name = "\xff"', TOML, {400, 422}),
        (b"", TOML, {400, 422}),
        (b"x", {"content-type": "text/x-unknown"}, {415}),
    ],
    ids=["cut", "bytes", "type", "key", "deep", "large", "toml", "toml bytes", "nothing", "media type"],
)
def test_wrong_body_has_a_stable_code(
    wasm_node: Node, body: bytes, headers: dict[str, str], statuses: set[int]
) -> None:
    for path in ("/v1/deploys", "/v1/plan"):
        try:
            reply = fetch(wasm_node.api, "POST", path, body=body, headers=headers)
        except (BrokenPipeError, ConnectionResetError):
            assert len(body) > 1 << 20, "only a body that is too large may be cut off"
            continue
        assert reply.status in statuses, reply.text
        error = reply.json()["error"]
        assert error["code"]
        assert error["message"]
    assert wasm_node.answers()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("deploy", "nothing-here.toml"), 3),
        (("history", "nobody"), 3),
        (("scale", "nobody=2"), 3),
        (("scale", "nobody"), 2),
        (("scale", "nobody=-1"), 2),
        (("rollback", "nobody"), 3),
        (("logs", "nobody"), 3),
        (("exec", "nobody", "--", "true"), 3),
        (("frobnicate",), 2),
    ],
)
def test_wrong_command_has_its_exit_code_and_says_why(wasm_node: Node, args: tuple[str, ...], code: int) -> None:
    done = wasm_node.cli(*args)
    assert done.code == code, str(done)
    assert "error: " in done.err
    assert "Traceback" not in done.err
