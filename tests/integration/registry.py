"""A registry of this computer: Debian's `docker-registry` on loopback, open, and behind a password."""

import contextlib
import io
import os
import secrets
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images import busybox_tar, docker
from tests.integration.node import fetch, until
from tests.ports import free_port

_LABEL = "orca.test.registry"
USER, PASSWORD = "orca", "s3cret"
_HTPASSWD = "orca:$2y$04$k85CcnBW7o2YkF0atH/avODgGfhjwCIjgY8NsOYtkTeh9pIldNH8m\n"
"""What `htpasswd -nbBC 4` makes of the two."""

needs_registry = pytest.mark.skipif(
    shutil.which("docker-registry") is None, reason="docker-registry is missing (apt install docker-registry)"
)


@dataclass(frozen=True)
class Registries:
    """The same images behind two doors: `open` asks for nothing, `private` for `USER` and `PASSWORD`."""

    open: str
    private: str

    def push(self, name: str, say: str, *, filler_bytes: int = 0) -> None:
        """Have an image `name` (with its tag) that answers `say`, in the registry and not on the engine.

        `filler_bytes` of noise make it larger, in a layer of their own.
        """
        target = f"{self.open}/{name}"
        with tempfile.TemporaryDirectory(prefix="orca-push-") as made:
            context = Path(made)
            (context / "root.tar").write_bytes(busybox_tar())
            (context / "noise.tar").write_bytes(_noise(filler_bytes))
            script = f"mkdir -p /tmp/www && echo {say} > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"
            (context / "Dockerfile").write_text(
                f"FROM scratch\nLABEL {_LABEL}={self.open}\nADD root.tar /\nADD noise.tar /noise/\n"
                f'ENV PATH=/bin\nCMD ["sh", "-c", "{script}"]\n'
            )
            docker("build", "-q", "-t", target, str(context))
        docker("push", "-q", target)
        self.forget(name)

    def forget(self, name: str) -> None:
        """Remove the image from the engine under both its names."""
        for door in (self.open, self.private):
            subprocess.run(["docker", "rmi", "-f", f"{door}/{name}"], capture_output=True, check=False, timeout=60)

    def clean(self) -> None:
        """Remove everything from the engine that was built or fetched of it, unnamed layers too."""
        found = docker("images", "-aq", "--filter", f"label={_LABEL}={self.open}").split()
        if found:
            subprocess.run(["docker", "rmi", "-f", *found], capture_output=True, check=False, timeout=60)


def _noise(count: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("noise")
        entry.size = count
        tar.addfile(entry, io.BytesIO(secrets.token_bytes(count)))
    return buffer.getvalue()


@contextmanager
def running_registries() -> Iterator[Registries]:
    """Both, over one store in a directory of their own."""
    with tempfile.TemporaryDirectory(prefix="orca-registry-") as made, contextlib.ExitStack() as stack:
        directory = Path(made)
        (directory / "htpasswd").write_text(_HTPASSWD)
        login = f"auth:\n  htpasswd:\n    realm: orca\n    path: {directory}/htpasswd\n"
        doors = [stack.enter_context(_serving(directory, more)) for more in ("", login)]
        yield Registries(*(f"127.0.0.1:{port}" for port in doors))


@contextmanager
def _serving(directory: Path, more: str) -> Iterator[int]:
    port = free_port()
    config = directory / f"{port}.yml"
    config.write_text(
        f"version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {directory}/images\n"
        f"http:\n  addr: 127.0.0.1:{port}\n{more}"
    )
    with (directory / f"{port}.log").open("ab") as log:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log, env=environ)

    def answers() -> bool:
        assert process.poll() is None, (directory / f"{port}.log").read_text()[-2000:]
        try:
            return fetch(port, "GET", "/v2/", timeout_s=2).status in {200, 401}
        except OSError:
            return False

    try:
        until(answers, "the registry answers")
        yield port
    finally:
        process.terminate()
        process.wait(10)
