"""The child process of the demonstration: a node on free ports in a directory of its own."""

import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import trio

from orca.client import NodeAddress, open_client
from orca.errors import NodeUnreachableError, NotAvailableError, OrcaError

UP_S_MAX: Final = 30.0
STOP_S_MAX: Final = 20.0
LOG_LINES: Final = 15
_POLL_S: Final = 0.1
_REQUEST_S_MAX: Final = 5.0
_PORTS: Final = range(20_000, 32_000)
"""Below those that outgoing connections get: a node that comes back finds its own still free."""


class DemoNode:
    """One node: its directory, ports and process. Started, killed and started again.

    Alone it founds a cluster that nobody joins; with `has_peers` others find it, and `join` makes it one of them.
    """

    def __init__(self, http_port: int | None, *, name: str = "demo", has_peers: bool = False) -> None:
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix="orca-demo-"))
        self.log_file = self.directory / "node.log"
        self.data_dir = self.directory / "data"
        self.api_port = free_port()
        self.http_port = http_port or free_port()
        self.https_port = free_port()
        self.gossip_port, self.mesh_port = (free_port(), free_port()) if has_peers else (0, 0)
        self.process: trio.Process | None = None
        self._peer = self._token = ""

    def join(self, peer: "DemoNode", token: str) -> None:
        """Its first start joins the cluster of `peer`."""
        self._peer, self._token = f"127.0.0.1:{peer.mesh_port}", token

    @property
    def address(self) -> NodeAddress:
        """Where its API is."""
        return NodeAddress(host="127.0.0.1", port=self.api_port)

    @property
    def command(self) -> list[str]:
        """How it is started."""
        verb = ["join", self._peer] if self._peer else ["up"]
        where = ["--data-dir", str(self.data_dir), "--name", self.name]
        listen = ["--api", f"127.0.0.1:{self.api_port}", "--http", f"127.0.0.1:{self.http_port}"]
        listen += ["--https", str(self.https_port)]
        members = ["--gossip", f"127.0.0.1:{self.gossip_port}", "--mesh", str(self.mesh_port)]
        kinds = ["--no-docker"] if self.mesh_port else []
        return [sys.executable, "-m", "orca", *verb, *where, *listen, *members, *kinds]

    async def start(self) -> None:
        """Start it and return when its API answers. Raises NotAvailableError when it does not."""
        with self.log_file.open("ab") as log:
            # A session of its own: Ctrl-C is for the demonstration, which then stops the node in order.
            self.process = await trio.lowlevel.open_process(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "ORCA_JOIN_TOKEN": self._token},
            )
        self._peer = self._token = ""  # from now on it is a node of its cluster
        with trio.move_on_after(UP_S_MAX):
            async with open_client(self.address, timeout_s=2.0) as client:
                while self.process.poll() is None:
                    try:
                        await client.ping()
                        return
                    except OrcaError:
                        await trio.sleep(_POLL_S)
        code = self.process.poll()
        how = f"did not answer within {UP_S_MAX:g} s" if code is None else f"ended at once with exit code {code}"
        raise NotAvailableError(f"the node {self.name} {how}")

    async def kill(self) -> None:
        """As a power cut would end it."""
        assert self.process is not None, "a node that was never started cannot be killed"
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> None:
        """In order, and by force when that takes too long."""
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        with trio.move_on_after(STOP_S_MAX) as waiting:
            await process.wait()
        if waiting.cancelled_caught:
            process.kill()
            await process.wait()

    def remove_files(self) -> None:
        """Remove its directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def last_log_lines(self) -> list[str]:
        """The end of what it wrote."""
        try:
            return self.log_file.read_text(errors="replace").splitlines()[-LOG_LINES:]
        except OSError:
            return []

    async def request(self, host: str, path: str) -> str:
        """The body of a GET through its proxy. Raises NodeUnreachableError for anything but 200."""
        return await trio.to_thread.run_sync(self._request, host, path, abandon_on_cancel=True)

    def _request(self, host: str, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=_REQUEST_S_MAX)
        try:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            body = answer.read(65536).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise NodeUnreachableError(f"the proxy does not answer: {error}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise NodeUnreachableError(f"the proxy answered {answer.status} {answer.reason}")
        return body.strip()

    async def request_until_answered(self, host: str, path: str, deadline_s: float) -> str:
        """As `request`, tried again until it works. Raises NotAvailableError after `deadline_s`."""
        why = ""
        with trio.move_on_after(deadline_s):
            while True:
                try:
                    return await self.request(host, path)
                except NodeUnreachableError as error:
                    why = error.message
                    await trio.sleep(0.02)
        raise NotAvailableError(f"http://{host}{path} is not answered after {deadline_s:g} s: {why}")


def free_port() -> int:
    """A TCP and UDP port of the loopback address that nobody uses now."""
    while True:
        port = random.choice(_PORTS)
        try:
            with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port


def docker_kill(allocation: str) -> str:
    """`docker kill` of the container that runs `allocation`; its short id. Blocks; raises NotAvailableError."""
    import docker
    import docker.errors

    try:
        engine = docker.from_env(timeout=10)
        found = engine.containers.list(filters={"label": f"orca.allocation={allocation}"})
        if not found:
            raise NotAvailableError("the engine does not know the container of the copy")
        found[0].kill()
        return str(found[0].short_id)
    except (docker.errors.DockerException, OSError) as error:
        raise NotAvailableError(f"Docker does not do it: {error}") from error


def docker_clean(cluster: str, image: str) -> list[str]:
    """Remove what a cluster left in the engine; what could not be removed. Blocks."""
    import docker
    import docker.errors

    left: list[str] = []
    try:
        engine = docker.from_env(timeout=30)
        label: dict[str, str | list[str] | bool] = {"label": f"orca.cluster={cluster}"}
        for container in engine.containers.list(all=True, filters=label):
            container.remove(force=True, v=True)
        for network in engine.networks.list(filters=label):
            network.remove()
        if engine.images.list(name=image):
            engine.images.remove(image, force=True)
    except (docker.errors.DockerException, OSError) as error:
        left.append(f"Docker: {error}")
    return left
