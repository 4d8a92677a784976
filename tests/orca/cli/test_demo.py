"""The demonstration, and the program that it puts into an image."""

import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import trio

from orca.cli.demo_node import free_port
from orca.cli.demo_story import docker_refusal
from orca.cli.tiny_hog import make_hog
from orca.cli.tiny_server import make_server
from orca.errors import InvalidRequestError
from tests.orca.commands.views import status

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("architecture", "machine"), [("x86_64", 62), ("AMD64", 62), ("aarch64", 183), ("arm64", 183)])
def test_the_program_is_an_elf_file_of_its_processor(architecture: str, machine: int) -> None:
    program = make_server(architecture, 8080, "hello")
    assert program[:6] == b"\x7fELF\x02\x01"
    assert struct.unpack_from("<HH", program, 16) == (2, machine)
    assert program.endswith(b"\r\n\r\nhello")
    assert len(program) < 1024


def test_a_processor_without_a_program_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="riscv64"):
        make_server("riscv64", 8080, "hello")


@pytest.mark.parametrize(("architecture", "machine"), [("x86_64", 62), ("aarch64", 183)])
def test_the_program_that_takes_memory_is_an_elf_file_too(architecture: str, machine: int) -> None:
    program = make_hog(architecture)
    assert struct.unpack_from("<HH", program, 16) == (2, machine)
    assert struct.unpack_from("<Q", program, 64 + 56 + 40)[0] == 2**30
    with pytest.raises(InvalidRequestError, match="riscv64"):
        make_hog("riscv64")


@pytest.mark.integration
@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no program for this processor")
async def test_the_program_answers_every_request_and_ends_on_sigterm(tmp_path: Path) -> None:
    port = free_port()
    path = tmp_path / "server"
    path.write_bytes(make_server(platform.machine(), port, "héllo"))
    path.chmod(0o755)
    process = await trio.lowlevel.open_process([str(path)])
    try:
        with trio.fail_after(20):
            while not await is_listening(port):
                await trio.lowlevel.checkpoint()
            for _ in range(20):
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                async with stream:
                    await stream.send_all(b"GET /any HTTP/1.1\r\nHost: x\r\n\r\n")
                    answer = b"".join([piece async for piece in stream])
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                assert answer.endswith(b"\r\n\r\n" + "héllo".encode())
            process.terminate()
            assert await process.wait() == 0
    finally:
        process.kill()


async def is_listening(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True


def test_why_docker_is_not_there_is_taken_from_the_node() -> None:
    assert docker_refusal(status()) == "no engine answers"


def run_demo(*args: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "orca", "demo", *args]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=180, cwd=ROOT, env={**os.environ, **environ}, check=False
    )


@pytest.mark.integration
@pytest.mark.slow
def test_the_demonstration_succeeds_without_docker_and_leaves_nothing() -> None:
    home = tempfile.mkdtemp()
    try:
        done = run_demo(TMPDIR=home, DOCKER_HOST=f"unix://{home}/no.sock")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Docker does not answer" in done.stdout
        assert "healed: it answers again" in done.stdout
        assert list(Path(home).iterdir()) == []
    finally:
        shutil.rmtree(home)


@pytest.mark.integration
@pytest.mark.docker
@pytest.mark.slow
def test_the_demonstration_deploys_kills_and_heals_a_container() -> None:
    done = run_demo()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Hello from a container that Orca runs!" in done.stdout
    assert "healed: it answers again" in done.stdout
    built = re.search(r"building (orca-demo-\w+)", done.stderr)
    assert built is not None
    command = ["docker", "images", "-q", built[1]]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout == ""


@pytest.mark.integration
@pytest.mark.slow
def test_https_is_shown_and_verified_against_the_clusters_own_ca_and_nothing_is_left() -> None:
    home = tempfile.mkdtemp()
    try:
        done = run_demo("--tls", "--json", TMPDIR=home, DOCKER_HOST=f"unix://{home}/no.sock")
        assert done.returncode == 0, done.stdout + done.stderr
        shown = json.loads(done.stdout)
        assert shown["tls"]["version"] == "TLSv1.3"
        assert shown["tls"]["names"] == ["hello.internal"]
        assert shown["redirected_to"].startswith("https://hello.internal:")
        assert "UNRECOGNIZED_NAME" in shown["refused"]
        assert list(Path(home).iterdir()) == []
    finally:
        shutil.rmtree(home)


@pytest.mark.integration
@pytest.mark.slow
def test_what_crashes_without_docker_is_told_with_its_evidence() -> None:
    home = tempfile.mkdtemp()
    try:
        done = run_demo("--break", TMPDIR=home, DOCKER_HOST=f"unix://{home}/no.sock")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "crash-loop:default/crash: firing" in done.stdout
        assert "> crash.1: " in done.stdout
        assert "orca logs crash --tail 50" in done.stdout
        assert list(Path(home).iterdir()) == []
    finally:
        shutil.rmtree(home)


@pytest.mark.integration
@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no program for this processor")
def test_a_container_that_takes_too_much_memory_is_told_with_its_evidence() -> None:
    done = run_demo("--break", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    alert = json.loads(done.stdout)["alert"]
    assert alert["id"] == "out-of-memory:default/hog"
    assert "out of memory (exit code 137)" in alert["quotes"][0]
    assert alert["causes"][0]["command"] == "orca stats hog"


@pytest.mark.integration
@pytest.mark.slow
def test_a_cluster_loses_its_leader_under_load_moves_its_copies_and_takes_it_back() -> None:
    home = tempfile.mkdtemp()
    try:
        done = run_demo("--nodes", "3", "--json", TMPDIR=home)
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        assert told["requests"] > 50
        assert told["failed_late"] == 0
        (service,) = told["status"]["services"]
        assert (service["ready"], service["replicas"]) == (3, 3)
        assert list(Path(home).iterdir()) == []
    finally:
        shutil.rmtree(home)


@pytest.mark.integration
@pytest.mark.slow
def test_a_port_that_is_taken_ends_the_demonstration_with_the_nodes_own_words() -> None:
    import socket

    home = tempfile.mkdtemp()
    try:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            done = run_demo("--port", str(taken.getsockname()[1]), TMPDIR=home, DOCKER_HOST=f"unix://{home}/no.sock")
        assert done.returncode == 1
        assert "error: " in done.stderr
        assert "node | " in done.stderr
        assert list(Path(home).iterdir()) == []
    finally:
        shutil.rmtree(home)
