"""`orca demo --break`: something that cannot work, and the alert that says so.

With Docker a program that takes more memory than its limit, without it a WebAssembly module that crashes. Nothing is
made up: the alert is what `orca alerts` answers on that node.
"""

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orca.cli.demo_story import CONTAINER_SERVICE, Demo, docker_refusal
from orca.cli.program import single

if TYPE_CHECKING:
    from orca.client import NodeClient
    from orca.model.alert import AlertView

ALERT_S_MAX: Final = 90.0
_POLL_S: Final = 0.25
_HOG_TOML: Final = """\
[[service]]
name = "hog"
image = "{image}"

[service.build]
context = "."

[service.resources]
memory = "16Mi"
"""
_DOCKERFILE: Final = """\
FROM scratch
COPY hog /hog
ENTRYPOINT ["/hog"]
"""
_CRASH_TOML: Final = """\
[[service]]
name = "crash"
runtime = "wasm"
module = "./crash.wat"
"""
_CRASH_WAT: Final = '(module (memory (export "memory") 1) (func (export "_start") unreachable))\n'
_RULES: Final = ("out-of-memory", "crash-loop")


class BreakingDemo(Demo):
    """A node, a service that breaks, and its alert."""

    async def run(self) -> None:
        """The whole story up to the alert. Raises OrcaError for what goes wrong."""
        from orca.cli.alerts import explain
        from orca.client import open_client

        self.say(f"Starting a node in {self.node.directory}", "bold")
        await self.node.start()
        async with open_client(self.node.address) as client:
            self.cluster = (await client.status()).cluster
            refusal = docker_refusal(await self._settled(client))
            if refusal:
                self.say(f"Docker does not answer ({refusal}): going on with WebAssembly", "yellow")
                directory = await self._write("crash", {"service.toml": _CRASH_TOML, "crash.wat": _CRASH_WAT})
            else:
                directory = await self._write_hog()
            what = "a WebAssembly module that crashes" if refusal else "a container that takes more than its limit"
            try:
                alert = await self._wait_for_alert(client, what, directory)
            except BaseExceptionGroup as errors:
                raise single(errors) from errors
        self.say("")
        if self.console.as_json:
            self.console.data({"alert": alert})
        else:
            explain(alert, self.console)

    async def _write_hog(self) -> Path:
        from orca.cli.tiny_hog import make_hog

        program = make_hog(platform.machine())
        files: dict[str, str | bytes] = {"hog": program, "Dockerfile": _DOCKERFILE}
        # Where cleaning up looks for what was built.
        return await self._write(CONTAINER_SERVICE, {**files, "service.toml": _HOG_TOML.format(image=self.image)})

    async def _write(self, name: str, files: dict[str, str | bytes]) -> Path:
        import trio

        directory = trio.Path(self.node.directory / name)
        await directory.mkdir()
        for file, content in files.items():
            await (directory / file).write_bytes(content.encode() if isinstance(content, str) else content)
            await (directory / file).chmod(0o755)
        return Path(directory)

    async def _wait_for_alert(self, client: "NodeClient", what: str, directory: Path) -> "AlertView":
        """Deploy, which cannot succeed, and ask meanwhile until an alert has three events behind it."""
        import trio

        from orca.errors import NotAvailableError

        with trio.move_on_after(ALERT_S_MAX):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deploy_in_vain, client, what, directory)
                while True:
                    alerts = (await client.alerts()).alerts
                    found = {one.rule.value: one for one in alerts if one.last_ms > one.since_ms or "-loop" in one.id}
                    for rule in _RULES:
                        if rule in found:
                            nursery.cancel_scope.cancel()
                            return found[rule]
                    await trio.sleep(_POLL_S)
        raise NotAvailableError(f"there was no alert within {ALERT_S_MAX:g} s")

    async def _deploy_in_vain(self, client: "NodeClient", what: str, directory: Path) -> None:
        from orca.errors import DeployFailedError

        try:
            await self._deploy(client, what, directory)
        except DeployFailedError as error:
            self.say(f"  {error.message}", "dim")
