"""What only containers have, on a real engine."""

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from node.runtime.base import (
    ExecRequest,
    InstanceExited,
    InstanceRemoved,
    InstanceStarted,
    InstanceState,
    LogStream,
    Workload,
)
from node.runtime.docker import DockerLimits, DockerRuntime
from orca.errors import (
    ImageNotFoundError,
    InstanceNotFoundError,
    InvalidRequestError,
    PortTakenError,
    RuntimeFailedError,
)
from orca.model.allocation import PrepareProgress
from orca.model.ids import BlobDigest, NodeId, ServiceName
from orca.model.spec import FileSpec, LogSpec, MountKind, MountSpec, PortSpec, PullPolicy, Resources, Ulimit
from orca.model.units import Bytes, MilliCpu
from orca.model.view import ImageBuild
from tests.contracts.runtime import PATIENCE_S, collect, ignore_progress, launch, run_command, running
from tests.images import busybox_tar, docker, ensure_image, why_no_docker
from tests.node.runtime.docker_subject import DockerSubject, docker_subject

pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.skipif(bool(why_no_docker()), reason=why_no_docker() or "an engine answers"),
]


@pytest.fixture
def subject() -> Iterator[DockerSubject]:
    ensure_image()
    with docker_subject() as made:
        yield made


async def _output(runtime: DockerRuntime, workload: Workload) -> list[str]:
    """What a copy that ends by itself prints."""
    async with runtime.logs(workload.allocation, follow=True) as lines:
        found: list[str] = []
        with trio.fail_after(PATIENCE_S):
            async for line in lines:
                if line.text == "end":
                    return found
                found.append(line.text)
    return found


async def test_limits_and_settings_reach_the_container(subject: DockerSubject, tmp_path: Path) -> None:
    (tmp_path / "0").write_text("content of the file\n")
    script = (
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null;"
        "cat /etc/app.conf; echo $COLOUR $ORCA_SERVICE $ORCA_SLOT; id -u; hostname; touch /x 2>&1;"
        "echo hi > /data/kept && cat /data/kept; (echo more >> /etc/app.conf) 2>/dev/null && echo writable;"
        "ulimit -n; echo end"
    )
    workload = subject.workload(
        source={
            "command": ("sh", "-c", script),
            "hostname": "named",
            "read_only": True,
            "ulimits": (Ulimit(name="nofile", soft=500, hard=600),),
            "cap_drop": ("ALL",),
        },
        env={"COLOUR": "blue = green"},
        resources=Resources(memory_bytes=Bytes(64 * 2**20), cpu_milli=MilliCpu(500), pids_max=50),
        mounts=(
            MountSpec(target="/data", source="kept"),
            MountSpec(target="/scratch", kind=MountKind.TMPFS, size_bytes=Bytes(2**20)),
        ),
        files=(FileSpec(target="/etc/app.conf", content=BlobDigest("sha256:0")),),
        labels={"team": "blue"},
        log=LogSpec(file_bytes_max=Bytes(1_000_000), files_max=2),
    )
    workload = msgspec.structs.replace(workload, files_dir=str(tmp_path))
    runtime = subject.make()
    async with running(runtime):
        await launch(runtime, workload)
        printed = await _output(runtime, workload)
        (entry,) = await trio.to_thread.run_sync(_inspect, workload)
    assert str(64 * 2**20) in printed
    assert "content of the file" in printed
    assert f"blue = green {workload.service} {workload.slot + 1}" in printed
    assert "named" in printed
    assert any("Read-only file system" in line for line in printed)
    assert "hi" in printed
    assert "writable" not in printed
    assert "500" in printed
    host, labels = entry["HostConfig"], entry["Config"]["Labels"]
    assert (host["NanoCpus"], host["PidsLimit"], host["RestartPolicy"]["Name"]) == (500_000_000, 50, "no")
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1000000", "max-file": "2"}}
    assert labels["team"] == "blue"
    assert labels["orca.spec-hash"] == workload.template
    assert entry["Mounts"][0]["Type"] in ("volume", "tmpfs", "bind")
    assert f"orca-{subject.project}-kept" in docker(
        "volume", "ls", "-q", "--filter", f"label=orca.cluster={subject.cluster}"
    )


def _inspect(workload: Workload) -> list[dict[str, Any]]:
    ids = docker("ps", "-aq", "--filter", f"label=orca.allocation={workload.allocation}").split()
    found: list[dict[str, Any]] = json.loads(docker("inspect", *ids))
    return found


async def test_copies_of_a_project_find_each_other_by_service_name_and_alias(subject: DockerSubject) -> None:
    web = subject.workload(ports=(PortSpec(port=8080),), aliases=("front",), networks=("default", "back"))
    client = subject.shell(
        "for name in web front; do until wget -q -O - http://$name:8080/; do sleep 0.1; done; done; echo end",
        name=ServiceName("client"),
        networks=("back",),
    )
    runtime = subject.make()
    async with running(runtime):
        await launch(runtime, web)
        await launch(runtime, client)
        assert await _output(runtime, client) == [str(web.service)] * 2


async def test_last_copy_takes_the_unused_networks_with_it(subject: DockerSubject) -> None:
    first, second = subject.serving(), subject.serving()
    runtime = subject.make()

    def networks() -> list[str]:
        return docker(
            "network", "ls", "--format", "{{.Name}}", "--filter", f"label=orca.cluster={subject.cluster}"
        ).split()

    async with running(runtime) as recorder:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.create, first)
            nursery.start_soon(runtime.create, second)
        assert networks() == [f"orca-{subject.project}-default"]
        await runtime.remove(first.allocation)
        await recorder.wait_for(InstanceRemoved, first.allocation)
        assert networks() == [f"orca-{subject.project}-default"]
        await runtime.start(second.allocation)
        await runtime.remove(second.allocation)
        with trio.fail_after(PATIENCE_S):
            while networks():  # noqa: ASYNC110 - the engine tells nobody
                await trio.sleep(0.05)
        await launch(runtime, first)
        assert (await runtime.status(first.allocation)).state is InstanceState.RUNNING


async def test_network_name_of_somebody_else_is_left_alone(subject: DockerSubject) -> None:
    name = f"orca-{subject.project}-default"
    docker("network", "create", name)
    workload = subject.serving()
    runtime = subject.make()
    try:
        async with running(runtime):
            await launch(runtime, workload)
            assert len(await runtime.endpoints(workload.allocation)) == 1
            (entry,) = _inspect(workload)
            assert list(entry["NetworkSettings"]["Networks"]) == [f"{name}-{subject.cluster}"]
            await runtime.remove(workload.allocation)
    finally:
        docker("network", "rm", name)


async def test_volume_of_another_cluster_is_left_alone(subject: DockerSubject) -> None:
    name = f"orca-{subject.project}-kept"
    other = f"{name}-{subject.cluster}"
    docker("volume", "create", "--label", "orca.cluster=c-other", name)
    mounts = (MountSpec(kind=MountKind.VOLUME, source="kept", target="/data"),)
    workload = subject.shell("sleep 60", mounts=mounts)
    runtime = subject.make()
    try:
        async with running(runtime):
            await launch(runtime, workload)
            (entry,) = _inspect(workload)
            assert [mount["Name"] for mount in entry["Mounts"]] == [other]
            await runtime.remove(workload.allocation)
        labels = json.loads(docker("volume", "inspect", other))[0]["Labels"]
        assert labels == {"orca.cluster": subject.cluster, "orca.project": subject.project}
    finally:
        docker("volume", "rm", name)


async def test_volume_that_a_person_made_is_used(subject: DockerSubject) -> None:
    name = f"orca-{subject.project}-kept"
    docker("volume", "create", name)
    workload = subject.shell("sleep 60", mounts=(MountSpec(kind=MountKind.VOLUME, source="kept", target="/data"),))
    runtime = subject.make()
    try:
        async with running(runtime):
            await launch(runtime, workload)
            (entry,) = _inspect(workload)
            assert [mount["Name"] for mount in entry["Mounts"]] == [name]
            await runtime.remove(workload.allocation)
    finally:
        docker("volume", "rm", name)


async def test_network_is_not_left_by_a_creation_that_failed(subject: DockerSubject) -> None:
    workload = subject.workload(source={"image": "orca-nothing-of-that-name:1"})
    runtime = subject.make()
    async with running(runtime):
        with pytest.raises(RuntimeFailedError):
            await runtime.create(workload)
        found = docker("network", "ls", "-q", "--filter", f"label=orca.cluster={subject.cluster}")
        assert found.split() == []


async def test_copies_removed_at_once_take_their_network_with_them(subject: DockerSubject) -> None:
    workloads = [subject.serving() for _ in range(6)]
    runtime = subject.make()
    async with running(runtime):
        for workload in workloads:
            await launch(runtime, workload)
        async with trio.open_nursery() as nursery:
            for workload in workloads:
                nursery.start_soon(runtime.remove, workload.allocation)
        with trio.fail_after(PATIENCE_S):
            while docker("network", "ls", "-q", "--filter", f"label=orca.cluster={subject.cluster}"):  # noqa: ASYNC110
                await trio.sleep(0.05)


async def test_death_by_memory_limit_is_told_as_such(subject: DockerSubject) -> None:
    workload = subject.shell(
        "tail /dev/zero", resources=Resources(memory_bytes=Bytes(16 * 2**20)), ports=(PortSpec(port=80),)
    )
    runtime = subject.make()
    async with running(runtime) as recorder:
        await launch(runtime, workload)
        exited = await recorder.wait_for(InstanceExited, workload.allocation)
        status = await runtime.status(workload.allocation)
    assert exited.is_oom_killed
    assert exited.detail == "out of memory"
    assert (status.is_oom_killed, status.detail, status.exit_code) == (True, "out of memory", exited.exit_code)


async def test_image_that_is_nowhere_is_named_in_the_error(subject: DockerSubject) -> None:
    runtime = subject.make()
    never = subject.workload(source={"image": "orca-test-nothing", "pull": PullPolicy.NEVER})
    async with running(runtime):
        with pytest.raises(ImageNotFoundError, match="orca-test-nothing:latest") as refused:
            await runtime.prepare(never, ignore_progress)
        assert "docker load" in refused.value.hint
        with pytest.raises(ImageNotFoundError, match="nobody/nothing:9") as refused:
            await runtime.prepare(subject.unpreparable()[0], ignore_progress)
        assert refused.value.hint
        with pytest.raises(ImageNotFoundError, match="orca-test-nothing"):
            await runtime.create(never)


async def test_host_port_is_published_and_a_taken_one_is_named(subject: DockerSubject) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    workload = subject.workload(ports=(PortSpec(port=8080, host_port=port, host_ip="127.0.0.1"),))
    runtime = subject.make()
    async with running(runtime) as recorder:
        await runtime.prepare(workload, ignore_progress)
        await runtime.create(workload)
        with pytest.raises(PortTakenError, match=str(port)):
            await runtime.start(workload.allocation)
        await listener.aclose()
        await runtime.start(workload.allocation)
        assert (await runtime.status(workload.allocation)).state is InstanceState.RUNNING
        await recorder.wait_for(InstanceStarted, workload.allocation)
        assert recorder.of(InstanceExited) == []
        other = subject.workload(ports=(PortSpec(port=8080, host_port=port, host_ip="127.0.0.1"),))
        await runtime.create(other)
        with pytest.raises(PortTakenError, match=str(port)):
            await runtime.start(other.allocation)


async def test_command_that_is_not_in_the_image_fails_with_the_words_of_the_engine(subject: DockerSubject) -> None:
    workload = subject.workload(source={"command": ("no-such-program",), "init": False})
    runtime = subject.make()
    async with running(runtime) as recorder:
        await runtime.create(workload)
        with pytest.raises(RuntimeFailedError, match="no-such-program"):
            await runtime.start(workload.allocation)
        await trio.sleep(0.2)
        assert recorder.of(InstanceExited) == []


async def test_program_without_a_sigterm_handler_stops_at_once_behind_init(subject: DockerSubject) -> None:
    workload = subject.serving()
    runtime = subject.make()
    async with running(runtime) as recorder:
        await launch(runtime, workload)
        with trio.fail_after(15):
            await runtime.stop(workload.allocation, 30.0)
        assert (await recorder.wait_for(InstanceExited, workload.allocation)).exit_code == 143


async def test_container_removed_by_hand_is_published_and_not_found(subject: DockerSubject) -> None:
    workload = subject.serving()
    runtime = subject.make()
    async with running(runtime) as recorder:
        await launch(runtime, workload)
        name = f"orca-{subject.project}-web-{workload.slot + 1}-{workload.allocation}"
        await trio.to_thread.run_sync(docker, "rm", "-f", name)
        await recorder.wait_for(InstanceRemoved, workload.allocation)
        with pytest.raises(InstanceNotFoundError):
            await runtime.start(workload.allocation)


async def test_container_renamed_by_hand_is_still_recognised(subject: DockerSubject) -> None:
    workload = subject.serving()
    runtime = subject.make()
    async with running(runtime):
        await launch(runtime, workload)
        name = f"orca-{subject.project}-web-{workload.slot + 1}-{workload.allocation}"
        await trio.to_thread.run_sync(docker, "rename", name, f"renamed-{subject.project}")
    second = subject.make()
    async with running(second):
        await second.create(workload)
        assert [instance.allocation for instance in await second.list_instances()] == [workload.allocation]


async def test_containers_of_other_nodes_are_not_listed(subject: DockerSubject) -> None:
    workload = subject.serving()
    runtime = subject.make()
    async with running(runtime):
        await runtime.create(workload)
        subject.node = NodeId("n-other")
        other = subject.make()
        async with running(other):
            assert await other.list_instances() == ()
            with pytest.raises(InstanceNotFoundError):
                await other.status(workload.allocation)


async def test_labels_of_the_spec_may_not_take_reserved_names(subject: DockerSubject) -> None:
    runtime = subject.make()
    async with running(runtime):
        with pytest.raises(InvalidRequestError, match=r"orca\.node"):
            await runtime.create(subject.workload(labels={"orca.node": "n-evil"}))


async def test_exec_on_a_terminal_has_its_size_and_its_input(subject: DockerSubject) -> None:
    workload = subject.serving()
    runtime = subject.make()
    request = ExecRequest(
        command=("sh", "-c", "read go; stty size; read line; echo got $line $MOOD"),
        tty=True,
        stdin=True,
        env={"MOOD": "fine"},
        rows=30,
        columns=100,
    )
    output = b""
    async with running(runtime):
        await launch(runtime, workload)
        with trio.fail_after(PATIENCE_S):
            async with runtime.exec(workload.allocation, request) as session:
                await session.resize(31, 101)
                await session.send(b"go\n")
                while b"31 101" not in output:
                    piece = await session.receive()
                    assert piece is not None, output
                    output += piece[1]
                await session.send(b"hello\n")
                while (piece := await session.receive()) is not None:
                    output += piece[1]
                assert await session.exit_code() == 0
    assert b"got hello fine" in output


async def test_exec_keeps_stdout_and_stderr_apart_and_moves_megabytes(subject: DockerSubject) -> None:
    workload = subject.serving()
    runtime = subject.make()
    request = ExecRequest(command=("sh", "-c", "echo good; echo bad >&2"))
    async with running(runtime):
        await launch(runtime, workload)
        parts: dict[LogStream, bytes] = {}
        async with runtime.exec(workload.allocation, request) as session:
            while (piece := await session.receive()) is not None:
                parts[piece[0]] = parts.get(piece[0], b"") + piece[1]
        assert parts == {LogStream.STDOUT: b"good\n", LogStream.STDERR: b"bad\n"}
        output, code = await run_command(runtime, workload.allocation, ("head", "-c", "5000000", "/dev/zero"))
        assert (len(output), code) == (5_000_000, 0)
        output, code = await run_command(runtime, workload.allocation, ("no-such-program",))
        assert code in (126, 127)


async def test_reader_of_a_flood_of_output_may_be_slow(subject: DockerSubject) -> None:
    workload = subject.shell(
        "yes 0123456789012345678901234567890123456789 | head -c 100000000; echo; echo end",
        log=LogSpec(file_bytes_max=Bytes(2_000_000), files_max=2),
    )
    runtime = subject.make()
    async with running(runtime) as recorder:
        await launch(runtime, workload)
        with trio.fail_after(150):
            async with runtime.logs(workload.allocation, follow=True) as lines:
                count = 0
                async for line in lines:
                    count += 1
                    assert len(line.text) <= 16 * 1024
                    if count == 1000:
                        await trio.sleep(1)
                    if line.text == "end" or count == 50_000:
                        break
            while not recorder.of(InstanceExited, workload.allocation):
                assert await trio.to_thread.run_sync(threading.active_count) < 60
                await trio.sleep(0.2)
        last = await collect(runtime, workload.allocation, tail=2)
        assert [line.text for line in last] == ["0123456789012345", "end"]


async def test_build_gives_the_lines_of_its_steps_and_makes_the_image(subject: DockerSubject, tmp_path: Path) -> None:
    tag = f"orca-test-{subject.project}:built"
    dockerfile = 'FROM scratch\nARG WORD=none\nCOPY root /\nENV WORD=$WORD\nRUN ["/bin/busybox", "echo", "building"]\n'
    context = busybox_tar(dockerfile=dockerfile)
    (tmp_path / "context.tar").write_bytes(context)
    runtime = subject.make()
    request = ImageBuild(tag=tag, args={"WORD": "spoken"})
    try:
        async with running(runtime):
            for tar in (tmp_path / "context.tar", io.BytesIO(context)):
                with trio.fail_after(60):
                    async with runtime.build(tar, request) as lines:
                        printed = [line async for line in lines]
                assert any("COPY root" in line for line in printed)
                assert any("Successfully built" in line for line in printed)
        env = docker("image", "inspect", "--format", "{{.Config.Env}}", tag)
        assert "WORD=spoken" in env
    finally:
        docker("rmi", "-f", tag)


async def test_build_that_fails_says_which_step_and_why(subject: DockerSubject) -> None:
    runtime = subject.make()
    tag = f"orca-test-{subject.project}:broken"
    context = busybox_tar(dockerfile=f'FROM scratch\nLABEL t={tag}\nCOPY root /\nRUN ["/bin/busybox", "false"]\n')

    async def build(request: ImageBuild) -> None:
        with trio.fail_after(60):
            async with runtime.build(io.BytesIO(context), request) as lines:
                async for _ in lines:
                    pass

    async with running(runtime):
        with pytest.raises(RuntimeFailedError, match="returned a non-zero code: 1"):
            await build(ImageBuild(tag=tag))
        with pytest.raises(RuntimeFailedError, match=r"(?i)dockerfile"):
            await build(ImageBuild(tag=tag, dockerfile="Elsewhere"))
    docker("image", "prune", "-f", "--filter", f"label=t={tag}")  # what the steps before the failing one left


async def test_deploying_many_costs_one_create_one_start_and_one_look_each(subject: DockerSubject) -> None:
    workloads = [subject.serving() for _ in range(6)]
    runtime = subject.make(limits=DockerLimits(starts_max=3))

    async def deploy(workload: Workload) -> None:
        await launch(runtime, workload)
        assert len(await runtime.endpoints(workload.allocation)) == 1

    async with running(runtime):
        with trio.fail_after(2 * PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for workload in workloads:
                    nursery.start_soon(deploy, workload)
        counts = dict(runtime.calls.counts)
    assert (counts["create"], counts["start"], counts["inspect"]) == (6, 6, 6)
    assert sum(counts.values()) <= 6 * 4 + 6  # with one look for the image each, and the network


async def test_waiters_of_one_image_share_one_pull(subject: DockerSubject) -> None:
    runtime = subject.make()
    errors: list[str] = []
    steps: list[PrepareProgress] = []

    async def prepare() -> None:
        try:
            await runtime.prepare(subject.unpreparable()[0], steps.append)
        except ImageNotFoundError as error:
            errors.append(error.message)

    async with running(runtime):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(prepare)
        assert runtime.calls.counts["registry_auth"] == 1
    assert len(errors) == 5
