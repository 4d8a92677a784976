"""`orca demo --keep`: the node stays, answers, and ends the way the demonstration says."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.images import docker
from tests.integration.node import ROOT, fetch, until

pytestmark = pytest.mark.slow


class Kept:
    """A demonstration that has ended, its words, and the shell that its user has."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.home = home
        program = home / "bin" / "orca"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m orca "$@"\n')
        program.chmod(0o755)
        path = f"{program.parent}:{os.environ['PATH']}"
        self.environ = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "TMPDIR": str(home), **environ}

    def run(self, line: str) -> str:
        """What a command line prints that succeeds."""
        done = subprocess.run(
            ["sh", "-c", line], capture_output=True, text=True, timeout=150, env=self.environ, check=False, cwd=ROOT
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def processes(self) -> list[int]:
        """The nodes whose data directory is below `home`."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            if any(str(self.home) in part for part in process.info["cmdline"] or ()):
                found.append(process.info["pid"])
        return found

    def assert_nothing_is_left(self) -> None:
        until(lambda: not self.processes(), "the node has ended")
        assert [one.name for one in self.home.iterdir()] == ["bin"]


@contextmanager
def kept_in_a_home(**environ: str) -> Iterator[Kept]:
    home = Path(tempfile.mkdtemp(prefix="orca-kept-"))
    kept = Kept(home, **environ)
    try:
        yield kept
    finally:
        for number in kept.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def test_kept_node_without_docker_answers_and_ends_as_its_document_says() -> None:
    with kept_in_a_home(DOCKER_HOST="unix:///nowhere/docker.sock") as kept:
        told = json.loads(kept.run("orca --json demo --keep"))
        node = told["node"]
        assert set(told) == {"answers", "healed_s", "status", "node"}
        assert kept.processes() == [node["process"]]
        kept.environ["ORCA_NODE"] = node["api"]
        status = json.loads(kept.run("orca --json status"))
        assert [one["id"] for one in status["services"]] == ["default/hello"]
        port = status["nodes"][0]["ingress"][0]["port"]
        assert "Hello from Orca!" in fetch(port, "GET", "/hello").text
        kept.run(node["end"])
        kept.assert_nothing_is_left()


@pytest.mark.docker
def test_kept_node_with_a_container_answers_and_ends_as_it_says() -> None:
    with kept_in_a_home() as kept:
        said = kept.run("orca demo --keep")
        going_on = re.search(r"export (ORCA_NODE)=(\S+); orca status", said)
        ending = re.search(r"to end it: (.*)", said)
        proxy = re.search(r"proxy http://127\.0\.0\.1:(\d+)", said)
        assert going_on is not None, said
        assert ending is not None, said
        assert proxy is not None, said
        kept.environ[going_on[1]] = going_on[2]
        status = json.loads(kept.run("orca --json status"))
        cluster = status["cluster"]
        assert {one["id"]: one["ready"] for one in status["services"]} == {"default/hello": 2, "default/box": 1}
        assert fetch(int(proxy[1]), "GET", "/", headers={"host": "box.example"}).status == 200
        image = docker("ps", "--filter", f"label=orca.cluster={cluster}", "--format", "{{.Image}}").strip()
        assert image.startswith("orca-demo-")
        kept.run(ending[1])
        kept.assert_nothing_is_left()
        for kind in ("ps -aq", "network ls -q", "volume ls -q"):
            assert docker(*kind.split(), "--filter", f"label=orca.cluster={cluster}") == "", kind
        assert docker("images", "-q", image) == ""
