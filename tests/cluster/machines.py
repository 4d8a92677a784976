"""Computers with a Docker engine of their own, which can lose their power: several on this one.

Each is an init process in its own network, mount and process namespace. Its engine, the engine's containers and its
node live below it, so killing it is what a power cut is: everything there is gone at once, and only its disk, a
directory, is there when it boots again.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cluster.computers import Computer
from tests.cluster.namespaces import Host, hosts, need_namespaces
from tests.images import engine_answers, ensure_image, why_no_docker
from tests.integration.node import until

BOOT_S = 60.0
_INIT = "mount -t tmpfs tmpfs /run; while :; do sleep 3600; done"


def need_engines() -> None:
    """Skip the test where no further engine can be started; in CI that is a failure."""
    need_namespaces()
    reason = why_no_docker() or ("" if shutil.which("dockerd") else "needs dockerd")
    if reason:
        pytest.skip(reason)


@dataclass
class Machine(Computer):
    """A computer with an engine. `init` is its first process, as this computer numbers it."""

    options: tuple[str, ...] = ()
    init: int = 0
    _shell: "subprocess.Popen[bytes] | None" = None
    _engine: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def engine(self) -> str:
        """What `docker -H` takes."""
        return f"unix://{self.directory}/docker.sock"

    def inside(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self.init), "-n", "-m", "-p", *words]

    def boot(self) -> None:
        """Its power comes: init, then the engine. Does not wait for the engine."""
        self.host.plug()
        command = self.host.command(
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", _INIT
        )
        self._shell = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shell = self._shell
        self.init = until(lambda: _children(shell), "an init process", BOOT_S)[0]
        until(lambda: Path(f"/proc/{self.init}/root/run").is_dir() and _is_mounted(self.init), "its /run", BOOT_S)
        for left in ("docker.sock", "docker.pid"):
            (self.directory / left).unlink(missing_ok=True)
        # In memory on a real computer. A process id that it names may be another's by now, and the engine would wait.
        shutil.rmtree(self.directory / "exec", ignore_errors=True)
        with (self.directory / "dockerd.log").open("ab") as log:
            self._engine = subprocess.Popen(
                self.inside(
                    "dockerd", "--data-root", f"{self.directory}/docker", "--exec-root", f"{self.directory}/exec",
                    "--pidfile", f"{self.directory}/docker.pid", "-H", self.engine,
                ),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def wait_engine(self) -> None:
        """Return once its engine answers and has the image of the test services."""

        def answers() -> bool:
            engine_answers.cache_clear()
            return engine_answers(self.directory / "docker.sock")

        until(answers, f"the engine of {self.name}", BOOT_S)
        ensure_image(host=self.engine)

    def freeze_engine(self) -> None:
        """The engine hangs: it listens and does not answer. Its containers run."""
        self._signal_engine(signal.SIGSTOP)

    def thaw_engine(self) -> None:
        """It goes on."""
        self._signal_engine(signal.SIGCONT)

    def cut_power(self) -> None:
        """Its link and every process on it are gone at once."""
        with contextlib.suppress(AssertionError):
            self.host.unplug()
        if self.init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init, signal.SIGKILL)
        for process in (self._engine, self.process, self._shell):
            if process is not None:
                process.send_signal(signal.SIGCONT)
                process.wait(30)
        self.init = 0

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        _signal_below(self.process, number)

    def _signal_engine(self, number: signal.Signals) -> None:
        assert self._engine is not None
        _signal_below(self._engine, number)


def _children(process: "subprocess.Popen[bytes]") -> list[int]:
    return [int(one) for one in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def _signal_below(entering: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Send a signal to what `nsenter` runs for us. It stops itself when its child is stopped, and has to go on too."""
    for child in _children(entering):
        os.kill(child, number)
    if number is signal.SIGCONT:
        entering.send_signal(number)


def _is_mounted(process: int) -> bool:
    return "\ntmpfs /run tmpfs " in Path(f"/proc/{process}/mounts").read_text()


@contextlib.contextmanager
def machines(count: int) -> Iterator[tuple[Sequence[Machine], Host]]:
    """`count` computers with their engines up, and one more place without anything, to ask them from."""
    with (
        hosts(count + 1) as places,
        tempfile.TemporaryDirectory(prefix="orca-bed-", ignore_cleanup_errors=True) as made,
    ):
        found: list[Machine] = []
        try:
            for number, host in enumerate(places[:-1], 1):
                directory = Path(made) / f"n{number}"
                directory.mkdir()
                env = {"DOCKER_HOST": f"unix://{directory}/docker.sock"}
                found.append(Machine(host, directory, f"n{number}", env=env))
                found[-1].boot()
            for one in found:
                one.wait_engine()
            yield found, places[-1]
        except BaseException:
            for one in found:
                print(f"---- log of {one.name}\n{one.log[-4000:]}")  # noqa: T201
            raise
        finally:
            for one in found:
                one.cut_power()
            for mount in sorted(_mounts_below(made), reverse=True):
                subprocess.run(["umount", "-l", mount], check=False, capture_output=True)


def _mounts_below(directory: str) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[1].startswith(directory)]
