"""Small test images, made FROM scratch of this computer's static busybox, and whether an engine answers.

Needs no registry and no network. `engine_answers` is what integration tests skip by.
"""

import io
import shutil
import socket
import subprocess
import tarfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

DEFAULT_SOCKET = Path("/var/run/docker.sock")
BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "sh", "httpd", "cat", "echo", "sleep", "head", "seq", "stty", "tr", "yes", "kill", "env", "ls", "id", "nslookup",
    "wget", "true", "false", "dd", "tail", "test", "hostname", "date", "touch", "grep", "mkdir",
)  # fmt: skip

REMOVALS_MAX = 10
_never = threading.Event()

WEB_IMAGE = "orca-test-web:1"
"""Answers 200 on port 8080 with `ORCA_SERVICE` of its environment, or runs another command."""

WEB_COMMAND = (
    "mkdir -p /tmp/www && echo ${ORCA_SERVICE:-web} > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"
)


@cache
def engine_answers(socket_path: Path = DEFAULT_SOCKET) -> bool:
    """Whether a Docker engine answers a ping within 3 s; asked once a process."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(3.0)
            sock.connect(str(socket_path))
            sock.sendall(b"GET /_ping HTTP/1.0\r\nhost: docker\r\n\r\n")
            return b" 200 " in sock.recv(256)
    except OSError:
        return False


def why_no_docker() -> str:
    """Why tests with containers cannot run here; empty if they can."""
    if not engine_answers():
        return f"no Docker engine answers at {DEFAULT_SOCKET}"
    if shutil.which("docker") is None:
        return "the docker command is missing (apt install docker.io)"
    if not BUSYBOX.exists():
        return f"{BUSYBOX} is missing (apt install busybox-static)"
    return ""


def busybox_tar(*, dockerfile: str | None = None) -> bytes:
    """A root file system with busybox, as a tar; with `dockerfile` a build context around it."""
    content = BUSYBOX.read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        prefix = ""
        if dockerfile is not None:
            prefix = "root/"
            _add_file(tar, "Dockerfile", dockerfile.encode(), 0o644)
        for directory, mode in (("bin", 0o755), ("tmp", 0o1777), ("etc", 0o755)):
            entry = tarfile.TarInfo(prefix + directory)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        _add_file(tar, f"{prefix}etc/passwd", b"root:x:0:0::/:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n", 0o644)
        _add_file(tar, f"{prefix}bin/busybox", content, 0o755)
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"{prefix}bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return buffer.getvalue()


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def docker(*arguments: str, stdin: bytes | None = None, host: str = "") -> str:
    """The output of a `docker` command; raises CalledProcessError when it fails."""
    command = ["docker", *(("-H", host) if host else ()), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, check=True, timeout=120)
    return done.stdout.decode()


def ensure_image(tag: str = WEB_IMAGE, *, changes: Sequence[str] = (), host: str = "") -> str:
    """Have a busybox image called `tag`; gives `tag`. It is small and stays for the next run."""
    try:
        docker("image", "inspect", "--format", "{{.Id}}", tag, host=host)
    except subprocess.CalledProcessError:
        settings = [f'CMD ["sh", "-c", "{WEB_COMMAND}"]', "ENV PATH=/bin", *changes]
        flags = [flag for change in settings for flag in ("--change", change)]
        docker("import", *flags, "-", tag, stdin=busybox_tar(), host=host)
    return tag


def remove_by_label(label: str, *, host: str = "") -> None:
    """Remove every container, network and volume that carries `label` (`key=value`)."""
    found = docker("ps", "-aq", "--filter", f"label={label}", host=host).split()
    if found:
        subprocess.run(
            ["docker", *(("-H", host) if host else ()), "rm", "-fv", *found], capture_output=True, check=False
        )
    for _ in range(REMOVALS_MAX):
        left = 0
        for kind in ("network", "volume"):
            for name in docker(kind, "ls", "-q", "--filter", f"label={label}", host=host).split():
                command = ["docker", *(("-H", host) if host else ()), kind, "rm", name]
                left += subprocess.run(command, capture_output=True, check=False).returncode != 0
        if not left:
            return
        _never.wait(0.5)  # a container whose removal somebody else began still holds on to them
