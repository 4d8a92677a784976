"""An engine that is absent, hangs, talks nonsense, or restarts."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from node.runtime.base import InstanceExited, InstanceState, RuntimeStateChanged
from node.runtime.docker import DockerRuntime
from orca.errors import InvalidConfigError, RuntimeUnavailableError
from orca.model.ids import ClusterId, NodeId
from orca.model.spec import PortSpec
from tests.contracts.runtime import PATIENCE_S, Recorder, ignore_progress, launch, running
from tests.images import docker, engine_answers, ensure_image, why_no_docker
from tests.node.runtime.docker_subject import DockerSubject, RealClock

DETECTION_S = 5.0
MARGIN_S = 3.0
"""What a busy computer may add to the promised time."""

pytestmark = pytest.mark.integration
VERSION = b'{"Version": "99.0", "ApiVersion": "1.44", "MinAPIVersion": "1.24", "Components": []}'


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for the name of a unix socket."""
    with tempfile.TemporaryDirectory(prefix="orca-") as made:
        yield Path(made)


def make_runtime(socket: Path) -> DockerRuntime:
    return DockerRuntime(ClusterId("c-engine"), NodeId("n-engine"), RealClock(), base_url=f"unix://{socket}")


class PlayedEngine:
    """Answers like an engine without containers until it is told to hang."""

    def __init__(self, answers: dict[bytes, bytes] | None = None) -> None:
        self.answers = {b"/_ping": b"OK", b"/version": VERSION, b"/containers/json": b"[]"} | (answers or {})
        self.is_hung = False

    async def serve(self, stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            chunk = await stream.receive_some(65536)
            if not chunk:
                return
            request += chunk
        if self.is_hung:
            await trio.sleep_forever()
        path = request.split(b" ")[1].split(b"?")[0]
        if path.startswith(b"/v1."):
            path = b"/" + path.split(b"/", 2)[2]
        if path == b"/events":
            await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            await trio.sleep_forever()
        body = self.answers.get(path)
        status = b"200 OK" if body is not None else b"404 Not Found"
        body = body or b'{"message": "page not found"}'
        head = b"HTTP/1.1 " + status + b"\r\ncontent-length: " + str(len(body)).encode() + b"\r\n\r\n"
        await stream.send_all(head + body)


@asynccontextmanager
async def played(socket: Path, engine: PlayedEngine) -> AsyncIterator[None]:
    """`engine` listens on `socket` inside the block."""
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await sock.bind(str(socket))
    sock.listen(50)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, engine.serve, [trio.SocketListener(sock)])
        yield
        nursery.cancel_scope.cancel()
    await trio.Path(socket).unlink()


async def test_absent_engine_is_said_at_once_and_calls_fail(directory: Path) -> None:
    runtime = make_runtime(directory / "none.sock")
    began = trio.current_time()
    async with running(runtime) as recorder:
        assert trio.current_time() - began < DETECTION_S
        (event,) = recorder.of(RuntimeStateChanged)
        assert not event.state.is_available
        assert "none.sock" in event.state.reason
        with pytest.raises(RuntimeUnavailableError, match=r"none\.sock"):
            await runtime.list_instances()


async def test_engine_that_never_answers_is_found_out_in_time(directory: Path) -> None:
    engine = PlayedEngine()
    engine.is_hung = True
    async with played(directory / "d.sock", engine):
        began = trio.current_time()
        async with running(make_runtime(directory / "d.sock")) as recorder:
            assert trio.current_time() - began < DETECTION_S + MARGIN_S
            assert not recorder.of(RuntimeStateChanged)[0].state.is_available


async def test_engine_that_hangs_later_is_found_out_and_frees_all_callers(directory: Path) -> None:
    engine = PlayedEngine()
    subject = DockerSubject()
    async with played(directory / "d.sock", engine):
        runtime = make_runtime(directory / "d.sock")
        async with running(runtime) as recorder:
            assert runtime.state().is_available
            engine.is_hung = True
            failed: list[RuntimeUnavailableError] = []

            async def call() -> None:
                try:
                    await runtime.prepare(subject.serving(), ignore_progress)
                except RuntimeUnavailableError as error:
                    failed.append(error)

            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(call)
            assert len(failed) == 100
            assert trio.current_time() - began < DETECTION_S + MARGIN_S
            assert not runtime.state().is_available
            with trio.fail_after(1):
                with pytest.raises(RuntimeUnavailableError):
                    await runtime.list_instances()
            engine.is_hung = False
            await recorder.wait_for(RuntimeStateChanged, count=3)
            assert runtime.state().is_available
            assert await runtime.list_instances() == ()


async def test_loop_goes_on_while_the_engine_hangs(directory: Path) -> None:
    engine = PlayedEngine()
    async with played(directory / "d.sock", engine), running(make_runtime(directory / "d.sock")) as recorder:
        engine.is_hung = True
        longest, last = 0.0, trio.current_time()
        with trio.fail_after(PATIENCE_S):
            while len(recorder.of(RuntimeStateChanged)) < 2:
                await trio.sleep(0.01)
                longest, last = max(longest, trio.current_time() - last), trio.current_time()
    assert longest < 1.0


@pytest.mark.parametrize("answer", [b"<html>no engine</html>", b"[]", b'{"ApiVersion": "many"}', b"\xff\xfe", b"null"])
async def test_something_else_behind_the_socket_is_said_and_does_no_harm(directory: Path, answer: bytes) -> None:
    engine = PlayedEngine({b"/version": answer})
    async with played(directory / "d.sock", engine), running(make_runtime(directory / "d.sock")) as recorder:
        assert not recorder.of(RuntimeStateChanged)[0].state.is_available


async def test_listing_of_another_shape_is_no_engine(directory: Path) -> None:
    engine = PlayedEngine({b"/containers/json": b'{"x": 1}'})
    async with played(directory / "d.sock", engine), running(make_runtime(directory / "d.sock")) as recorder:
        assert "no Docker engine" in recorder.of(RuntimeStateChanged)[0].state.reason


@pytest.mark.parametrize("url", ["ssh://root@host", "npipe:////./pipe/docker_engine", "nonsense"])
def test_addresses_that_cannot_work_are_refused(url: str) -> None:
    with pytest.raises(InvalidConfigError, match="unix://"):
        DockerRuntime(ClusterId("c-1"), NodeId("n-1"), RealClock(), base_url=url)


async def test_runtime_without_containers_never_imports_the_sdk(directory: Path) -> None:
    script = (
        "import sys, trio\n"
        "from tests.node.runtime.docker_subject import DockerSubject\n"
        "from tests.contracts.runtime import running\n"
        "async def main():\n"
        "    runtime = DockerSubject().make()\n"
        "    async with running(runtime):\n"
        "        assert not runtime.state().is_available or await runtime.list_instances() == ()\n"
        "trio.run(main)\n"
        "assert 'docker' not in sys.modules, 'the SDK was imported'\n"
    )
    await trio.run_process([sys.executable, "-c", script])


@contextmanager
def own_engine(directory: Path) -> Iterator["OwnEngine"]:
    """A second dockerd, with everything of its own."""
    engine = OwnEngine(directory)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop(kill_containers=True)


class OwnEngine:
    """A dockerd of the test's own, which it may kill.

    It lives in a network namespace of its own: a dockerd with `--bridge=none` deletes the
    `docker0` that it sees, and that would be the one of the computer's real engine.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.directory / "log").open("ab")
        command = [
            "unshare", "--net", "dockerd", "--storage-driver", "vfs", "--iptables=false", "--ip-masq=false",
            "--bridge=none", "--data-root", str(self.directory / "data"), "--exec-root", str(self.directory / "exec"),
            "--pidfile", str(self.directory / "pid"), "-H", f"unix://{self.socket}",
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 30
        engine_answers.cache_clear()
        while not engine_answers(self.socket):
            engine_answers.cache_clear()
            assert time.monotonic() < deadline, (self.directory / "log").read_text()[-2000:]
            assert self.process.poll() is None, (self.directory / "log").read_text()[-2000:]
            threading.Event().wait(0.1)
        engine_answers.cache_clear()

    def stop(self, *, kill_containers: bool = False) -> None:
        if self.process is None:
            return
        if kill_containers and self.process.poll() is None:
            ids = docker("ps", "-aq", host=f"unix://{self.socket}").split()
            if ids:
                docker("rm", "-fv", *ids, host=f"unix://{self.socket}")
            for name in docker("network", "ls", "-q", "--filter", "type=custom", host=f"unix://{self.socket}").split():
                docker("network", "rm", name, host=f"unix://{self.socket}")
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


needs_own_engine = pytest.mark.skipif(
    bool(why_no_docker()) or None in (shutil.which("dockerd"), shutil.which("unshare")) or os.geteuid() != 0,
    reason="starting a second dockerd needs root, dockerd, unshare and what other container tests need",
)


def _kill_all(url: str) -> None:
    docker("kill", *docker("ps", "-q", host=url).split(), host=url)


async def _wait_until(recorder: Recorder, is_available: bool) -> None:
    while recorder.of(RuntimeStateChanged)[-1].state.is_available is not is_available:
        await recorder.wait_for(RuntimeStateChanged, count=len(recorder.of(RuntimeStateChanged)) + 1)


@pytest.mark.docker
@pytest.mark.slow
@needs_own_engine
async def test_engine_restart_is_survived_and_the_list_then_tells_the_truth(directory: Path) -> None:
    with own_engine(directory) as engine:
        url = f"unix://{engine.socket}"
        ensure_image(host=url)
        subject = DockerSubject(url)
        workload = subject.workload(ports=(PortSpec(port=8080),))
        runtime = subject.make()
        texts: list[str] = []

        async def follow() -> None:
            async with runtime.logs(workload.allocation, follow=True) as lines:
                async for line in lines:
                    texts.append(line.text)

        async with running(runtime) as recorder:
            await launch(runtime, workload)
            await trio.to_thread.run_sync(engine.stop)
            await _wait_until(recorder, is_available=False)
            with pytest.raises(RuntimeUnavailableError):
                await runtime.status(workload.allocation)
            await trio.to_thread.run_sync(engine.start)
            await _wait_until(recorder, is_available=True)
            (instance,) = await runtime.list_instances()
            assert instance.state is InstanceState.EXITED
            await runtime.start(workload.allocation)
            assert (await runtime.status(workload.allocation)).state is InstanceState.RUNNING
            assert len(await runtime.endpoints(workload.allocation)) == 1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
                await trio.to_thread.run_sync(_kill_all, url)
                await recorder.wait_for(InstanceExited, workload.allocation)
                await runtime.remove(workload.allocation)


@pytest.mark.docker
@pytest.mark.slow
@needs_own_engine
async def test_frozen_engine_is_noticed_and_used_again_when_it_thaws(directory: Path) -> None:
    with own_engine(directory) as engine:
        url = f"unix://{engine.socket}"
        ensure_image(host=url)
        subject = DockerSubject(url)
        workload = subject.serving()
        runtime = subject.make()
        async with running(runtime) as recorder:
            await launch(runtime, workload)
            engine.freeze()
            began = trio.current_time()
            await _wait_until(recorder, is_available=False)
            assert trio.current_time() - began < DETECTION_S + MARGIN_S
            engine.thaw()
            await _wait_until(recorder, is_available=True)
            assert (await runtime.status(workload.allocation)).state is InstanceState.RUNNING
            await runtime.remove(workload.allocation)
