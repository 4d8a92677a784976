"""The story of `orca demo` on one node, step by step, each said before it is done."""

import platform
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orca.cli.program import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from orca.cli.console import Console
    from orca.cli.demo_node import DemoNode
    from orca.client import NodeClient
    from orca.model.view import AllocationView, ServiceView, StatusReply

WASM_SERVICE: Final = "hello"
WASM_PATH: Final = "/hello"
CONTAINER_SERVICE: Final = "box"
CONTAINER_HOST: Final = "box.example"
CONTAINER_PORT: Final = 8080
HEAL_S_MAX: Final = 60.0
CLEAN_S_MAX: Final = 90.0
_SERVICE_TOML: Final = """\
[[service]]
name = "{name}"
image = "{image}"
port = {port}
domain = "{host}"
health = "/"
init = false

[service.build]
context = "."
"""
_DOCKERFILE: Final = """\
FROM scratch
COPY server /server
ENTRYPOINT ["/server"]
"""


def teller(console: "Console") -> "Callable[..., None]":
    """What tells a line of the story at once; nothing of it with `--json` or `--quiet`."""

    def say(text: str, style: str = "") -> None:
        if not console.as_json and not console.is_quiet:
            console.line(text, style)
            console.out.flush()

    return say


class Demo:
    """The steps, each said before it is done."""

    def __init__(self, session: Session, node: "DemoNode", *, is_kept: bool) -> None:
        self.console = session.console
        self.say = teller(session.console)
        self.node = node
        self.is_kept = is_kept
        self.image = f"orca-demo-{secrets.token_hex(4)}:latest"
        self.cluster = ""
        self.result: dict[str, Any] = {}

    async def run(self) -> None:
        """The whole story up to the status table. Raises OrcaError for what goes wrong."""
        from orca.cli import render
        from orca.client import open_client

        self.say(f"Starting a node in {self.node.directory}", "bold")
        await self.node.start()
        async with open_client(self.node.address) as client:
            status = await client.status()
            self.cluster = status.cluster
            self.say(f"  API http://127.0.0.1:{self.node.api_port}, proxy http://127.0.0.1:{self.node.http_port}")
            await self._deploy(client, "a WebAssembly HTTP service", _hello_directory())
            refusal = docker_refusal(await self._settled(client))
            if refusal:
                self.say(f"Docker does not answer ({refusal}): going on with WebAssembly only", "yellow")
            else:
                directory = await self._write_container()
                await self._deploy(client, "a container, its image built from scratch on the spot", directory)
        self.say("Asking both through the proxy" if not refusal else "Asking it through the proxy", "bold")
        await self._ask("hello.example", WASM_PATH)
        if not refusal:
            await self._ask(CONTAINER_HOST, "/")
        await (self._lose_node() if refusal else self._lose_container())
        async with open_client(self.node.address) as client:
            status = await client.status()
        self.result["status"] = status
        if self.is_kept:
            self.result["node"] = {
                "api": str(self.node.address),
                "process": self._process_id(),
                "directory": str(self.node.directory),
                "end": self._how_to_end_it(),
            }
        self.say("")
        if self.console.as_json:
            self.console.data(self.result)
        elif not self.console.is_quiet:
            render.status(status, self.console)
        self._say_how_to_go_on()

    async def _settled(self, client: "NodeClient") -> "StatusReply":
        """The status once the node has asked its runtimes."""
        import trio

        for _ in range(60):
            status = await client.status()
            kinds = {one.kind.value: one for node in status.nodes for one in node.facts.runtimes}
            if "docker" in kinds and (kinds["docker"].is_available or kinds["docker"].reason):
                return status
            await trio.sleep(0.1)
        return status

    async def _deploy(self, client: "NodeClient", what: str, directory: Path) -> None:
        import trio

        from orca.cli.files import FileOptions, load_files
        from orca.cli.progress import ProgressView
        from orca.commands.deploy import deploy_services

        self.say(f"Deploying {what}", "bold")
        given = await trio.to_thread.run_sync(load_files, [str(directory)], FileOptions())
        started_at = time.monotonic()
        view = ProgressView(self.console)
        outcome = await deploy_services(client, given, view)
        view.finish()
        error = outcome.wait.error() if outcome.wait is not None else None
        if error is not None:
            raise error
        self.say(f"  healthy after {time.monotonic() - started_at:.1f} s", "green")

    async def _write_container(self) -> Path:
        """A directory to deploy: a service file, a Dockerfile, and a program of our own making."""
        import trio

        from orca.cli.tiny_server import make_server

        directory = trio.Path(self.node.directory / CONTAINER_SERVICE)
        await directory.mkdir()
        program = make_server(platform.machine(), CONTAINER_PORT, "Hello from a container that Orca runs!\n")
        await (directory / "server").write_bytes(program)
        await (directory / "server").chmod(0o755)
        await (directory / "Dockerfile").write_text(_DOCKERFILE)
        text = _SERVICE_TOML.format(name=CONTAINER_SERVICE, image=self.image, port=CONTAINER_PORT, host=CONTAINER_HOST)
        await (directory / "service.toml").write_text(text)
        return Path(directory)

    async def _ask(self, host: str, path: str) -> None:
        answer = await self.node.request_until_answered(host, path, HEAL_S_MAX)
        self.say(f"  curl -H 'Host: {host}' http://127.0.0.1:{self.node.http_port}{path}")
        self.say(f"    {answer.splitlines()[0] if answer else '(empty)'}", "cyan")
        self.result.setdefault("answers", {})[f"{host}{path}"] = answer

    async def _lose_container(self) -> None:
        """Kill the container and measure until a copy that is not the dead one answers."""
        import trio

        from orca.cli.demo_node import docker_kill
        from orca.client import open_client

        async with open_client(self.node.address) as client:
            before = _only_copy(await client.services(), CONTAINER_SERVICE)
            self.say(f"Killing the container of {CONTAINER_SERVICE}.1", "bold")
            started_at = time.monotonic()
            container = await trio.to_thread.run_sync(docker_kill, before.id)
            self.say(f"  docker kill {container}")
            with trio.fail_after(HEAL_S_MAX):
                async with client.watch_services((before.service,)) as replies:
                    async for reply in replies:
                        if _is_healed(before, reply.services):
                            break
            await self.node.request_until_answered(CONTAINER_HOST, "/", HEAL_S_MAX)
        self._healed(time.monotonic() - started_at, "answers again")

    async def _lose_node(self) -> None:
        """Kill the node and measure from its new start until the service answers."""
        self.say("Killing the node itself with SIGKILL, and starting it again", "bold")
        await self.node.kill()
        started_at = time.monotonic()
        await self.node.start()
        await self.node.request_until_answered("hello.example", WASM_PATH, HEAL_S_MAX)
        self._healed(time.monotonic() - started_at, "answers again, from what the node had stored")

    def _healed(self, elapsed_s: float, how: str) -> None:
        self.result["healed_s"] = round(elapsed_s, 3)
        self.say(f"  healed: it {how}, {elapsed_s:.2f} s after the kill", "green")

    def _say_how_to_go_on(self) -> None:
        self.say("")
        self.say("How to go on:", "bold")
        for command, why in (
            ("orca up", "run a node for good"),
            ("orca deploy service.toml", "or a compose.yaml; waits until healthy"),
            ("orca status, orca ps, orca logs web -f", "see what it does"),
            ("orca scale web=3, orca rollback web", "change it, and back"),
            ("orca --help", "everything else"),
        ):
            self.say(f"  {command:<40} {why}")

    async def keep(self) -> None:
        """Say how to reach the node and how to end it."""
        self.say("")
        self.say(f"The node goes on (process {self._process_id()}):", "bold")
        self.say(f"  export ORCA_NODE={self.node.address}; orca status")
        self.say(f"  to end it: {self._how_to_end_it()}")

    def _process_id(self) -> int:
        return self.node.process.pid if self.node.process is not None else 0

    def _how_to_end_it(self) -> str:
        """One line for a shell in which ORCA_NODE is set; nothing of the demonstration is left after it."""
        has_container = f"{CONTAINER_HOST}/" in self.result.get("answers", {})
        names = f"{WASM_SERVICE} {CONTAINER_SERVICE}" if has_container else WASM_SERVICE
        steps = [f"orca rm {names} --yes", f"kill {self._process_id()}", f"rm -r {self.node.directory}"]
        return "; ".join([*steps, f"docker rmi {self.image}"] if has_container else steps)

    async def clean(self) -> None:
        """Remove services, node, image and files; nothing of the demonstration stays."""
        import trio

        from orca.cli.demo_node import docker_clean
        from orca.client import open_client
        from orca.commands.progress import ignore
        from orca.commands.remove import remove_services
        from orca.errors import OrcaError

        self.say("")
        self.say("Cleaning up", "bold")
        with trio.move_on_after(CLEAN_S_MAX / 3):
            try:
                async with open_client(self.node.address, timeout_s=5.0) as client:
                    names = [service.id for service in (await client.services()).services]
                    await remove_services(client, names, ignore, timeout_s=20.0)
            except OrcaError as error:
                self.console.note(f"the node did not remove its services: {error.message}", "yellow")
        await self.node.stop()
        if (self.node.directory / CONTAINER_SERVICE).exists() and self.cluster:
            for left in await trio.to_thread.run_sync(docker_clean, self.cluster, self.image):
                self.console.problem(f"not removed: {left}", "yellow")
        await trio.to_thread.run_sync(self.node.remove_files)


def docker_refusal(status: "StatusReply") -> str:
    """Why no container can run; empty when one can."""
    for node in status.nodes:
        for runtime in node.facts.runtimes:
            if runtime.kind.value == "docker":
                return "" if runtime.is_available else runtime.reason or "not available"
    return "the node has no Docker runtime"


def _hello_directory() -> Path:
    import orca.model

    return Path(orca.model.__file__).parent.parent / "examples" / WASM_SERVICE


def _only_copy(reply: Any, name: str) -> "AllocationView":
    from orca.commands.names import resolve_copy

    return resolve_copy(name, reply.services)


def _is_healed(before: "AllocationView", services: tuple["ServiceView", ...]) -> bool:
    """Whether a copy is ready that is another one, or was started again, since `before`."""
    return any(
        copy.is_ready and (copy.id != before.id or copy.restarts > before.restarts)
        for service in services
        for copy in service.allocations
    )
