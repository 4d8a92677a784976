"""`--json` of every verb against a running node: one document of the documented shape, and the exit code."""

import json
import signal
import subprocess
from typing import Any, TypeVar

import msgspec
import pytest

from orca.commands.changes import ChangeOutcome
from orca.commands.exec import ExecRecord
from orca.commands.ps import CopyList
from orca.commands.version import Versions
from orca.model.event import EventKind
from orca.model.view import (
    ChangeAction,
    EventsReply,
    HistoryReply,
    LogRecord,
    NodeView,
    PlanReply,
    StatsReply,
    StatusReply,
)
from orca.version import VERSION
from tests.integration.node import ROOT, Node, running_node, until
from tests.integration.services import HELLO_WAT, module, worker
from tests.node.runtime.wasm.guests import TRAP, answer
from tests.ports import free_port

T = TypeVar("T")
SAYING_WAT = answer("content-type: text/plain\n\nsaid\n")


def decoded(text: str, shape: type[T]) -> T:
    """`text` as a `shape`, which has to know every key and value of it."""
    value = msgspec.json.decode(text, type=shape)
    assert json.loads(msgspec.json.encode(value)) == json.loads(text)
    return value


def shown(node: Node, shape: type[T], *args: str, code: int = 0) -> T:
    """The one document that `orca --json ARGS` prints; nothing else is said."""
    done = node.cli("--json", *args)
    assert done.code == code, str(done)
    assert done.err == ""
    assert done.out.endswith("}\n")
    assert done.out.count("\n") == 1
    return decoded(done.out, shape)


def refused(node: Node, *args: str, code: int) -> Any:
    """The error that `orca --json ARGS` says on stderr, with an empty stdout."""
    done = node.cli("--json", *args)
    assert done.code == code, str(done)
    assert done.out == ""
    assert done.err.count("\n") == 1
    error = json.loads(done.err)["error"]
    assert error["message"]
    return error


def change_of(outcome: ChangeOutcome) -> tuple[ChangeAction, int]:
    """Action and revision of the one service that changed, which has to have come to rest well."""
    assert outcome.wait is not None
    assert outcome.wait.failures == ()
    (change,) = outcome.changes
    return change.action, change.revision


def test_deploy_plan_and_history_tell_revisions(wasm_node: Node) -> None:
    node = wasm_node
    node.file("hello.wat", HELLO_WAT)
    path = node.file("service.toml", module(replicas=2))
    (planned,) = shown(node, PlanReply, "plan", path).services
    assert (planned.service, planned.action, planned.replaces_copies) == ("default/hello", ChangeAction.CREATE, False)
    assert [one.copies for one in planned.placements] == [2]
    outcome = shown(node, ChangeOutcome, "deploy", path)
    assert change_of(outcome) == (ChangeAction.CREATE, 1)
    assert outcome.wait is not None
    assert [(one.id, one.ready, one.replicas) for one in outcome.wait.services] == [("default/hello", 2, 2)]
    shown(node, PlanReply, "plan", "--exit-code", path)
    node.file("hello.wat", SAYING_WAT)
    (planned,) = shown(node, PlanReply, "plan", "--exit-code", path, code=10).services
    assert planned.action is ChangeAction.UPDATE
    assert [one.key for one in planned.fields] == ["source.module"]
    assert change_of(shown(node, ChangeOutcome, "deploy", path, "--note", "says more")) == (ChangeAction.UPDATE, 2)
    history = shown(node, HistoryReply, "history", "hello")
    assert [(one.revision, one.is_current) for one in history.revisions] == [(2, True), (1, False)]
    assert "says more" in history.revisions[0].cause


def test_looking_verbs_show_the_service(wasm_node: Node) -> None:
    node = wasm_node
    status = shown(node, StatusReply, "status")
    assert [(one.id, one.ready) for one in status.services] == [("default/hello", 2)]
    assert [one.facts.accepts_work for one in status.nodes] == [True]
    copies = shown(node, CopyList, "ps", "hello").allocations
    assert [(one.slot, one.is_ready) for one in copies] == [(0, True), (1, True)]
    stats = shown(node, StatsReply, "stats", "hello").stats
    assert {one.allocation for one in stats} == {one.id for one in copies}
    events = shown(node, EventsReply, "events", "hello").events
    assert [one.kind for one in events].count(EventKind.SERVICE_DEPLOYED) == 2
    versions = shown(node, Versions, "version")
    assert (versions.client, versions.node, versions.problem) == (VERSION, VERSION, "")


def test_logs_are_one_record_a_line(wasm_node: Node) -> None:
    node = wasm_node
    node.file("trap.wat", TRAP)
    shown(node, ChangeOutcome, "deploy", node.file("traps.toml", module("traps", path="trap.wat")))
    assert node.through_proxy("/traps").status == 500
    done = node.cli("--json", "logs", "traps", "-n", "5").good()
    records = [decoded(line, LogRecord) for line in done.out.splitlines()]
    assert records
    assert {one.service for one in records} == {"default/traps"}
    assert "unreachable" in " ".join(one.text for one in records)
    assert change_of(shown(node, ChangeOutcome, "rm", "-y", "traps"))[0] is ChangeAction.REMOVE


def test_changing_verbs_tell_what_they_did(wasm_node: Node) -> None:
    node = wasm_node
    scaled = shown(node, ChangeOutcome, "scale", "hello=3")
    assert scaled.wait is not None
    assert [one.ready for one in scaled.wait.services] == [3]
    stopped = shown(node, ChangeOutcome, "stop", "hello")
    assert stopped.wait is not None
    assert [(one.is_stopped, one.ready) for one in stopped.wait.services] == [(True, 0)]
    started = shown(node, ChangeOutcome, "start", "hello")
    assert started.wait is not None
    assert [(one.is_stopped, one.ready) for one in started.wait.services] == [(False, 3)]
    before = {one.id for one in shown(node, CopyList, "ps", "hello").allocations}
    change_of(shown(node, ChangeOutcome, "restart", "hello"))
    after = {one.id for one in shown(node, CopyList, "ps", "hello").allocations}
    assert len(after) == 3
    assert not before & after
    assert change_of(shown(node, ChangeOutcome, "rollback", "hello", "--to", "1"))[0] is ChangeAction.UPDATE
    assert node.through_proxy("/hello").text == "module\n"
    detached = shown(node, ChangeOutcome, "scale", "-d", "hello=1")
    assert detached.wait is None
    assert change_of(shown(node, ChangeOutcome, "rm", "-y", "hello"))[0] is ChangeAction.REMOVE
    assert shown(node, StatusReply, "status").services == ()


@pytest.mark.parametrize(
    ("args", "code", "name"),
    [
        (("scale", "nobody=2"), 3, "not_found"),
        (("stop", "nobody"), 3, "not_found"),
        (("start", "nobody"), 3, "not_found"),
        (("restart", "nobody"), 3, "not_found"),
        (("rollback", "nobody"), 3, "not_found"),
        (("history", "nobody"), 3, "not_found"),
        (("rm", "-y", "nobody"), 3, "not_found"),
        (("ps", "nobody"), 3, "not_found"),
        (("stats", "nobody"), 3, "not_found"),
        (("events", "nobody"), 3, "not_found"),
        (("logs", "nobody"), 3, "not_found"),
        (("exec", "nobody", "--", "true"), 3, "not_found"),
        (("plan", "nothing.toml"), 3, "not_found"),
        (("deploy", "nothing.toml"), 3, "not_found"),
        (("scale", "nobody"), 2, "invalid_request"),
        (("status", "--frob"), 2, "usage"),
    ],
)
def test_refusals_are_one_document_on_stderr(wasm_node: Node, args: tuple[str, ...], code: int, name: str) -> None:
    assert refused(wasm_node, *args, code=code)["code"] == name


def test_problems_of_a_file_have_file_line_and_key(wasm_node: Node) -> None:
    path = wasm_node.file("wrong.toml", '[[service]]\nname = "web"\nimage = "a"\nreplicsa = 2\nport = "x"\n')
    for verb in ("deploy", "plan"):
        error = refused(wasm_node, verb, path, code=2)
        assert error["code"] == "invalid_spec"
        places = {(one["file"].rpartition("/")[2], one["line"], one["key"]) for one in error["problems"]}
        assert {("wrong.toml", 4, "service[0].replicsa"), ("wrong.toml", 5, "service[0].port")} <= places


def test_deploy_that_fails_shows_its_outcome_and_the_error(wasm_node: Node) -> None:
    wasm_node.file("trap.wat", TRAP)
    job = '[[service]]\nname = "job"\nruntime = "wasm"\nmodule = "trap.wat"\nrestart = "never"\n'
    done = wasm_node.cli("--json", "deploy", wasm_node.file("job.toml", job))
    assert done.code == 1, str(done)
    outcome = decoded(done.out, ChangeOutcome)
    assert outcome.wait is not None
    (failure,) = outcome.wait.failures
    assert failure.service == "default/job"
    assert "unreachable" in str(outcome.wait.logs)
    assert json.loads(done.err)["error"]["code"] == "deploy_failed"
    wasm_node.cli("rm", "-y", "job").good()


def test_node_that_is_not_there_is_said_by_every_verb() -> None:
    with running_node(needs_docker=False, start=False) as nobody:
        path = nobody.file("service.toml", '[[service]]\nname = "a"\nimage = "a"\n')
        for args in (("status",), ("ps",), ("events", "-f"), ("logs", "a"), ("deploy", path), ("rm", "-y", "a")):
            error = refused(nobody, *args, code=5)
            assert error["code"] == "node_unreachable"
            assert str(nobody.api) in error["message"]
        versions = shown(nobody, Versions, "version")
    assert (versions.client, versions.node) == (VERSION, "")
    assert str(nobody.api) in versions.problem


def test_up_describes_the_node_and_refuses_in_json() -> None:
    with running_node(needs_docker=False, start=False) as node:
        command = [*node.up_command(), "--json"]
        command[command.index("--http") + 1] = "127.0.0.1:0"
        with (node.directory / "log").open("wb") as log:
            node.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
        assert node.process.stdout is not None
        view = decoded(node.process.stdout.readline().decode(), NodeView)
        assert view.api == f"http://127.0.0.1:{node.api}"
        assert view.data_dir == str(node.data)
        assert view.ingress[0].port > 0
        assert node.get("/v1/node").json()["facts"]["id"] == view.facts.id
        second = [*Node(node.directory, options=("--no-docker",), api=free_port()).up_command(), "--json"]
        done = subprocess.run(second, cwd=ROOT, capture_output=True, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (6, b"")
        assert json.loads(done.stderr.splitlines()[-1])["error"]["code"] == "data_directory_locked"
        node.process.send_signal(signal.SIGTERM)
        assert node.process.stdout.read() == b""
        assert node.process.wait(20) == 0
        node.process.stdout.close()


@pytest.mark.docker
def test_exec_tells_output_by_stream_and_its_exit_code(node: Node) -> None:
    shown(node, ChangeOutcome, "deploy", node.file("sleeper.toml", worker("sleeper", "sleep 1000")))
    done = node.cli("--json", "exec", "sleeper.1", "--", "sh", "-c", "echo hä; sleep 0.2; echo oh >&2; exit 7")
    assert done.code == 7, str(done)
    records = [decoded(line, ExecRecord) for line in done.out.splitlines()]
    assert [(one.stream, one.text, one.exit_code) for one in records] == [
        ("stdout", "hä\n", None),
        ("stderr", "oh\n", None),
        (None, None, 7),
    ]
    assert refused(node, "exec", "sleeper.9", "--", "true", code=3)["code"] == "not_found"
    missing = node.cli("--json", "exec", "sleeper", "--", "/no/such")
    assert missing.code != 0
    assert "/no/such" in missing.out + missing.err
    node.cli("rm", "-y", "sleeper").good()
    until(lambda: not node.containers(every=True), "its container is gone")
