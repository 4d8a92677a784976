"""A Docker engine for one bench alone, in namespaces of its own.

The bench starts itself again inside new network, mount and process namespaces, under
an init that reaps what the engine leaves behind. So the engine shares no bridge,
address pool, firewall rule or Swarm port with another one, and all that the bench
started is gone when it ends, however it ends.
"""

import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from simulations.bench.report import Line, say

T = TypeVar("T")
ROOT: Final = Path(__file__).parents[2]
IMAGE: Final = "orca-bench-web:1"
PORT: Final = 8080
COMMAND: Final = ("/bin/sh", "-c", f"hostname > /www/index.html && exec httpd -f -p {PORT} -h /www")
"""Answers with the container's own name."""
_BUSYBOX: Final = Path("/bin/busybox")
_INSIDE: Final = "--inside"
_LOG_END: Final = 3000


class EngineSocket(http.client.HTTPConnection):
    """A connection to the Engine API; one thread's at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=120)
        self._path = path

    def connect(self) -> None:
        """Open the unix socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The reply of one call. Raises RuntimeError with the engine's words when it refuses."""
        headers = {} if body is None else {"content-type": "application/json"}
        self.request(method, "/v1.41" + path, None if body is None else json.dumps(body), headers)
        answer = self.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {content.decode(errors='replace')}")
        return json.loads(content) if content[:1] in (b"{", b"[") else None


def why_no_engine() -> str:
    """Why no engine of its own can be started here; empty if it can."""
    if os.geteuid() != 0:
        return "starting an engine of one's own needs root"
    missing = [name for name in ("dockerd", "docker-init", "unshare", "mount", "ip") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} missing"
    return "" if _BUSYBOX.exists() else f"{_BUSYBOX} is missing (apt install busybox-static)"


def run_inside(module: str, measure: Callable[[Path, EngineSocket], list[Line]]) -> list[Line]:
    """What `measure` gives when it is called with a directory and an engine of its own.

    `module` must call this function, through its `main`, when it is run as a program.
    """
    if _INSIDE in sys.argv:
        directory = Path(sys.argv[sys.argv.index(_INSIDE) + 1])
        with _own_engine(directory) as engine:
            lines = measure(directory, engine)
        (directory / "lines").write_bytes(msgspec.json.encode(lines))
        sys.exit(0)
    reason = why_no_engine()
    if reason:
        say(f"{module}: left out: {reason}")
        return []
    with tempfile.TemporaryDirectory(prefix="orca-bench-", ignore_cleanup_errors=True) as name:
        init = shutil.which("docker-init") or ""
        flags = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        command = ["unshare", *flags, init, "--", sys.executable, "-m", module, _INSIDE, name]
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
        return msgspec.json.decode((Path(name) / "lines").read_bytes(), type=list[Line])


@contextmanager
def _own_engine(directory: Path) -> Iterator[EngineSocket]:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Without a name server that refuses at once, Swarm looks for a registry for ten seconds.
    resolver = directory / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", str(resolver), "/etc/resolv.conf"], check=True)
    path = directory / "d.sock"
    command = [
        "dockerd", "--data-root", str(directory / "data"), "--exec-root", str(directory / "exec"),
        "--pidfile", str(directory / "pid"), "-H", f"unix://{path}",
    ]  # fmt: skip
    log = directory / "dockerd.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        engine = EngineSocket(path)

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"dockerd ended:\n{log.read_text()[-_LOG_END:]}")
            try:
                engine.call("GET", "/_ping")
            except (OSError, RuntimeError, http.client.HTTPException):
                engine.close()
                return False
            return True

        until(answers, "the engine answers")
        _load_image(engine)
        yield engine
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _load_image(engine: EngineSocket) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for directory in ("bin", "www", "tmp"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        content = _BUSYBOX.read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
        for applet in ("sh", "httpd", "hostname"):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    repository, _, tag = IMAGE.partition(":")
    engine.request(
        "POST",
        f"/v1.41/images/create?fromSrc=-&repo={repository}&tag={tag}&changes=ENV%20PATH%3D/bin",
        buffer.getvalue(),
        {"content-type": "application/x-tar"},
    )
    answer = engine.getresponse().read()
    if b"error" in answer:
        raise RuntimeError(answer.decode())


def until(look: Callable[[], T | None], what: str, *, timeout_s: float = 120.0, pause_s: float = 0.01) -> T:
    """What `look` gives as soon as it gives anything true. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(pause_s)


def accepts(host: str, port: int) -> bool:
    """Whether a TCP connect succeeds."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def body_of(host: str, port: int, path: str = "/", headers: Sequence[tuple[str, str]] = ()) -> str | None:
    """The body of a 200 to a GET on a connection of its own; None for anything else."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        content = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return content.strip() if answer.status == 200 else None
