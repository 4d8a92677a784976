"""The command line as a process, against a node's API on a real socket."""

import os
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest
import trio

from node.runtime.base import ExecRequest
from orca.errors import ConflictError
from orca.model.allocation import Phase
from orca.model.ids import ProjectName, ServiceId
from orca.model.view import AllocationsReply, RolloutState, ServicesReply, ServiceView
from tests.node.api.control import COPY, WEB, FakeControl, event, spec
from tests.node.api.raw import serving
from tests.orca.commands.views import copy, service

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]


class Story(FakeControl):
    """A node that shows `views`; a deploy makes it show the next of `scenes`, one every change."""

    def __init__(self) -> None:
        super().__init__()
        self.views: tuple[ServiceView, ...] = (service("web", copy("web", ready=True, id=str(COPY))),)
        self.scenes: list[tuple[ServiceView, ...]] = []
        self.specs[WEB] = spec("web")
        self.revisions[WEB] = 1

    async def services(self, project: ProjectName | None = None, only: tuple[ServiceId, ...] = ()) -> ServicesReply:
        shown = tuple(view for view in self.views if not only or view.id in only)
        return ServicesReply(observation=self.observation(), services=shown)

    async def allocations(self, service: ServiceId | None = None) -> AllocationsReply:
        return AllocationsReply(observation=self.observation(), allocations=())

    async def wait_change(self, after: int) -> int:
        if self.scenes:
            self.views = self.scenes.pop(0)
            self._changes += 1
            return self.change_count()
        return await super().wait_change(after)


@pytest.fixture
async def story() -> Story:
    return Story()


@pytest.fixture
async def node(story: Story) -> AsyncGenerator[str, None]:
    async with serving(story) as addresses:
        host, port = addresses.tcp[0]
        yield f"{host}:{port}"


async def orca(node: str, *args: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "orca", *args, "--node", node]
    if "--" in args:
        command = [sys.executable, "-m", "orca", "--node", node, *args]
    with trio.fail_after(60):
        return await trio.run_process(
            command, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False, cwd=ROOT
        )


def service_file(directory: Path, name: str = "web") -> str:
    path = directory / "service.toml"
    path.write_text(f'[[service]]\nname = "{name}"\nimage = "web:1"\n')
    return str(path)


async def until_it_has_threads(pid: int, count: int) -> None:
    """Return once the process has so many threads: one of them waits for its input."""
    tasks = trio.Path(f"/proc/{pid}/task")
    while len(list(await tasks.iterdir())) < count:  # noqa: ASYNC110 - the kernel tells nobody
        await trio.sleep(0.01)


IN_DESTRUCTORS = """
from orca.cli import interrupt, main

class Busy:
    def __del__(self):
        sum(range(100_000))

interrupt.leave_on_interrupt()
print("ready", flush=True)
while True:
    Busy()
"""
"""A program that is nearly always where Python forgets a KeyboardInterrupt."""

FAILED_COPY = copy("web", 0, 2, phase=Phase.BACKOFF, reason="exit code 1", restarts=5, id=str(COPY))


def rolling(*, fails: bool) -> list[tuple[ServiceView, ...]]:
    """A second revision of web, look by look."""
    old = copy("web", 0, 1, ready=True)
    last = (
        service("web", old, FAILED_COPY, revision=2, state=RolloutState.FAILED, message="web.1 does not stay up")
        if fails
        else service("web", copy("web", 0, 2, ready=True), revision=2, state=RolloutState.COMPLETED)
    )
    return [(service("web", old, copy("web", 0, 2), revision=2),), (last,)]


async def test_a_deploy_ends_when_the_rollout_is_complete(story: Story, node: str, tmp_path: Path) -> None:
    story.scenes = rolling(fails=False)
    done = await orca(node, "deploy", service_file(tmp_path), "--note", "because")
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"web is healthy, 1/1 ready, revision 2\n"
    assert b"web.1 ready" in done.stderr
    (verb, _, request) = story.calls[0]
    assert (verb, getattr(request, "note", "")) == ("deploy", "because")


async def test_a_deploy_that_fails_says_which_copy_why_and_its_lines(story: Story, node: str, tmp_path: Path) -> None:
    story.scenes = rolling(fails=True)
    done = await orca(node, "deploy", service_file(tmp_path))
    assert done.returncode == 1
    assert b"error: web: web.1 does not stay up" in done.stderr
    assert b"exit code 1" in done.stderr
    assert b"    | line 2" in done.stderr
    assert b"revision 1 keeps serving" in done.stderr


async def test_a_failed_deploy_in_json_is_one_document_and_one_error(story: Story, node: str, tmp_path: Path) -> None:
    story.scenes = rolling(fails=True)
    done = await orca(node, "--json", "deploy", service_file(tmp_path))
    assert done.returncode == 1
    outcome = msgspec.json.decode(done.stdout)
    assert outcome["wait"]["failures"][0]["serving"] == 1
    assert outcome["wait"]["logs"][COPY] == ["line 0", "line 1", "line 2"]
    assert msgspec.json.decode(done.stderr)["error"]["code"] == "deploy_failed"


async def test_patience_ends_before_the_rollout_does(story: Story, node: str, tmp_path: Path) -> None:
    story.scenes = rolling(fails=False)[:1]
    done = await orca(node, "deploy", service_file(tmp_path), "--timeout", "300ms")
    assert done.returncode == 1
    assert b"is not healthy after 300ms" in done.stderr


async def test_ctrl_c_leaves_the_rollout_alone_and_says_so(story: Story, node: str, tmp_path: Path) -> None:
    story.scenes = rolling(fails=False)[:1]
    command = [sys.executable, "-m", "orca", "deploy", service_file(tmp_path), "--node", node]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stderr is not None
    said = b""
    with trio.fail_after(60):
        while b"web.1" not in said:
            said += await process.stderr.receive_some()
        process.send_signal(signal.SIGINT)
        async for chunk in process.stderr:
            said += chunk
        assert await process.wait() == 130
    await process.stderr.aclose()
    assert process.stdout is not None
    await process.stdout.aclose()
    assert b"goes on without us" in said
    assert b"Traceback" not in said
    assert [call[0] for call in story.calls] == ["deploy"]


async def test_ctrl_c_does_not_wait_for_whoever_writes_the_file(node: str, tmp_path: Path) -> None:
    fifo = tmp_path / "service.toml"
    os.mkfifo(fifo)
    for given in ("-", str(fifo)):
        command = [sys.executable, "-m", "orca", "deploy", given, "--node", node]
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT
        )
        assert process.stdin is not None
        assert process.stderr is not None
        with trio.fail_after(60):
            await until_it_has_threads(process.pid, 2)
            process.send_signal(signal.SIGINT)
            said = b"".join([chunk async for chunk in process.stderr])
            assert await process.wait() == 130
        assert said == b""
        await process.stdin.aclose()
        await process.stderr.aclose()


async def test_ctrl_c_before_the_verb_begins_is_not_forgotten_in_a_destructor() -> None:
    command = [sys.executable, "-c", IN_DESTRUCTORS]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stderr is not None
    with trio.fail_after(60):
        assert (await process.stdout.receive_some()).startswith(b"ready")
        process.send_signal(signal.SIGINT)
        assert b"".join([chunk async for chunk in process.stderr]) == b""
        assert await process.wait() == 130
    await process.stdout.aclose()
    await process.stderr.aclose()


async def test_what_a_script_starts_in_the_background_ignores_ctrl_c(story: Story, node: str, tmp_path: Path) -> None:
    story.scenes = rolling(fails=False)[:1]
    script = f"trap '' INT; exec {sys.executable} -m orca deploy {service_file(tmp_path)} --node {node}"
    process = await trio.lowlevel.open_process(["bash", "-c", script], stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stderr is not None
    said = b""
    with trio.fail_after(60):
        while b"web.1" not in said:
            said += await process.stderr.receive_some()
        process.send_signal(signal.SIGINT)
        story.scenes = rolling(fails=False)[1:]
        await story.notify()
        said += b"".join([chunk async for chunk in process.stderr])
        assert await process.wait() == 0
    await process.stderr.aclose()


async def test_a_wrong_file_lists_all_problems_and_reaches_no_node(node: str, story: Story, tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    path.write_text('[[service]]\nname = "web"\nimag = "x"\nreplicas = "many"\n')
    done = await orca(node, "deploy", str(path))
    assert done.returncode == 2
    assert b"service.toml:3" in done.stderr
    assert b"service.toml:4" in done.stderr
    assert story.calls == []


async def test_standard_input_is_a_file_too(story: Story, node: str) -> None:
    done = await orca(node, "deploy", "-", "--detach", stdin=b'[[service]]\nname = "web"\nimage = "web:1"\n')
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"web created (revision 2)\n"


async def test_a_plan_changes_nothing_and_tells_by_its_exit_code(story: Story, node: str, tmp_path: Path) -> None:
    path = service_file(tmp_path)
    done = await orca(node, "plan", path)
    assert done.returncode == 0
    assert b"+ web would be created" in done.stdout
    assert (await orca(node, "plan", path, "--exit-code")).returncode == 10
    assert story.calls == []


async def test_a_refusal_of_the_node_has_its_exit_code(story: Story, node: str, tmp_path: Path) -> None:
    story.reject = [ConflictError("route example.com/ is taken by shop/api")]
    done = await orca(node, "deploy", service_file(tmp_path))
    assert done.returncode == 4
    assert done.stderr.endswith(b"error: route example.com/ is taken by shop/api\n")


async def test_looking_works_in_tables_and_in_json(node: str) -> None:
    assert b"web   docker" in (await orca(node, "status")).stdout
    assert str(COPY).encode() in (await orca(node, "ps", "web")).stdout
    assert b"web.1" in (await orca(node, "stats")).stdout
    assert b"* 1" in (await orca(node, "history", "web")).stdout
    for verb in (["status"], ["ps"], ["stats"], ["history", "web"], ["events"], ["version"]):
        done = await orca(node, *verb, "--json")
        assert done.returncode == 0
        assert isinstance(msgspec.json.decode(done.stdout), dict)


async def test_an_unknown_service_is_answered_with_similar_names(node: str) -> None:
    done = await orca(node, "logs", "wbe")
    assert done.returncode == 3
    assert done.stderr == b"error: there is no service or copy 'wbe'\nhint: did you mean web?\n"


async def test_logs_carry_the_copy_and_json_one_record_a_line(node: str) -> None:
    done = await orca(node, "logs", "web.1")
    assert done.stdout.splitlines() == [b"web.1 | line 0", b"web.1 | line 1", b"web.1 | line 2"]
    done = await orca(node, "logs", "web", "--json", "--tail", "2")
    assert [msgspec.json.decode(line)["text"] for line in done.stdout.splitlines()] == ["line 1", "line 2"]
    assert (await orca(node, "logs", "web", "-t", "-n", "2")).stdout.startswith(b"web.1 | 1970-01-01T00:00:00.001Z ")


async def test_events_of_one_service_can_be_limited(story: Story, node: str) -> None:
    await story.publish(*(event(number, WEB) for number in range(1, 6)))
    done = await orca(node, "events", "web", "-n", "2")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == [b"4", b"5"]


async def test_exec_passes_input_output_and_exit_code(story: Story, node: str) -> None:
    done = await orca(node, "exec", "-i", "-e", "A=1", "-u", "me", "web", "--", "cat", "-x", stdin=b"hello")
    assert done.stdout == b"hello"
    assert done.stderr == b"cat -x"
    request = story.calls[0][2]
    assert getattr(request, "env", None) == {"A": "1"}
    assert getattr(request, "command", None) == ("cat", "-x")
    done = await orca(node, "exec", "web", "--", "exit", "7")
    assert done.returncode == 7


async def test_removal_asks_nobody_without_yes(story: Story, node: str) -> None:
    done = await orca(node, "rm", "web")
    assert done.returncode == 2
    assert b"--yes" in done.stderr
    assert story.calls == []
    story.scenes = [()]
    done = await orca(node, "rm", "web", "--yes")
    assert (done.returncode, done.stdout) == (0, b"web is gone\n")


async def test_scaling_resolves_every_name_before_the_first_change(story: Story, node: str) -> None:
    done = await orca(node, "scale", "web=3", "nope=1")
    assert done.returncode == 3
    assert story.calls == []
    done = await orca(node, "scale", "web=3", "--detach")
    assert (done.returncode, done.stdout) == (0, b"web updated (revision 1)\n")


async def test_usage_errors_exit_with_2_and_say_where_help_is(node: str) -> None:
    done = await orca(node, "scale")
    assert done.returncode == 2
    assert b"hint: orca scale --help" in done.stderr
    done = await orca(node, "--json", "deploy", "x", "--timeout", "soon")
    assert done.returncode == 2
    assert msgspec.json.decode(done.stderr)["error"]["code"] == "usage"


async def test_no_node_is_exit_code_5_but_version_still_answers() -> None:
    done = await orca("127.0.0.1:1", "ps")
    assert done.returncode == 5
    assert b"orca up" in done.stderr
    done = await orca("127.0.0.1:1", "version")
    assert done.returncode == 0
    assert done.stdout.startswith(b"orca ")


async def test_a_reader_that_leaves_is_no_error(node: str) -> None:
    command = f"{sys.executable} -m orca ps --node {node} | true"
    done = await trio.run_process(["bash", "-c", command], capture_stderr=True, check=False, cwd=ROOT)
    assert done.stderr == b""


async def test_a_terminal_is_raw_inside_and_as_before_outside(story: Story, node: str) -> None:
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (33, 77))
    before = termios.tcgetattr(slave)
    command = [sys.executable, "-m", "orca", "--node", node, "exec", "web", "--"]
    try:
        with trio.fail_after(60):
            first = await trio.run_process(
                [*command, "exit", "7"], stdin=slave, stdout=slave, stderr=slave, check=False, cwd=ROOT
            )
            assert first.returncode == 7
            assert termios.tcgetattr(slave) == before
            request = story.calls[0][2]
            assert isinstance(request, ExecRequest)
            assert (request.tty, request.stdin, request.rows, request.columns) == (True, True, 33, 77)
            process = await trio.lowlevel.open_process(
                [*command, "cat"], stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, start_new_session=True
            )
            said = b""
            while not said.endswith(b"cat"):
                await trio.lowlevel.wait_readable(master)
                said += os.read(master, 1000)
            os.write(master, b"\x03!")  # Ctrl-C is for the program inside
            while not said.endswith(b"\x03!"):
                await trio.lowlevel.wait_readable(master)
                said += os.read(master, 1000)
            assert process.poll() is None
            process.kill()
            await process.wait()
    finally:
        os.close(master)
        os.close(slave)


async def test_a_shell_completes_verbs_and_live_names(story: Story, node: str) -> None:
    async def complete(*words: str) -> list[bytes]:
        environ = {
            **os.environ,
            "ORCA_NODE": node,
            "_ORCA_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("orca", *words)),
            "COMP_CWORD": str(len(words)),
        }
        done = await trio.run_process([sys.executable, "-m", "orca"], env=environ, capture_stdout=True, cwd=ROOT)
        return [line.partition(b",")[2] for line in done.stdout.splitlines()]

    assert sorted(await complete("st")) == [b"start", b"stats", b"status", b"stop"]
    assert await complete("logs", "w") == [b"web", b"web.1"]
    assert await complete("restart", "w") == [b"web"]
    assert b"--follow" in await complete("logs", "--f")


def test_verbs_that_only_look_stand_among_those_that_look_and_take_no_word_that_changes() -> None:
    from orca.cli.verbs import ONLY_LOOK, VERBS, only_looks

    assert {one.name for one in VERBS if one.group == "Look"} > ONLY_LOOK
    changing = {"exec", "nodes", "quorum", "ca", "gossip", "alerts"}
    assert not ONLY_LOOK & changing, "these have words that change something"
    assert only_looks(("alerts",))
    assert only_looks(("alerts", "show", "web"))
    assert not only_looks(("alerts", "ack", "web"))
    assert only_looks(("ps", "web"))
