"""`orca demo --tls`: a service in HTTPS, verified against the CA that the cluster made for its names.

What a person would do with `curl` is done with Python's own TLS client, which trusts that CA and no other.
"""

import http.client
import socket
import ssl
import time
from pathlib import Path
from typing import Any, Final

import trio

from orca.cli.demo_node import DemoNode
from orca.cli.demo_story import HEAL_S_MAX, Demo
from orca.errors import NodeUnreachableError, NotAvailableError

HOST: Final = "hello.internal"
UNKNOWN: Final = "nobody.internal"
_REQUEST_S_MAX: Final = 5.0
_TOML: Final = """\
[[service]]
name = "hello"
runtime = "wasm"
module = "{module}"
port = 80
domain = "{host}"
path = "/hello"
health = "/healthz"

[service.ingress]
https = "redirect"
"""


class TlsDemo(Demo):
    """A node, a service with a domain, and what its ingress shows."""

    async def run(self) -> None:
        """The whole story up to the status table. Raises OrcaError for what goes wrong."""
        from orca.cli import render
        from orca.client import open_client

        self.say(f"Starting a node in {self.node.directory}", "bold")
        await self.node.start()
        async with open_client(self.node.address) as client:
            self.cluster = (await client.status()).cluster
            await self._deploy(client, f"a WebAssembly HTTP service for {HOST}", await self._write())
            self.say("Taking the CA of served names, which nobody trusts but this demonstration", "bold")
            with trio.move_on_after(HEAL_S_MAX):
                while not (authority := (await client.authorities()).ingress):  # noqa: ASYNC110 - no event tells it
                    await trio.sleep(0.1)
            ca = trio.Path(self.node.directory / "ingress.pem")
            await ca.write_text(authority)
            self.say(f"  orca ca show --ingress > {ca}")
        await self._ask_in_tls(Path(ca))
        await self._see_what_is_refused(Path(ca))
        async with open_client(self.node.address) as client:
            self.result["status"] = status = await client.status()
        self.say("")
        if self.console.as_json:
            self.console.data(self.result)
        elif not self.console.is_quiet:
            render.status(status, self.console)

    async def _write(self) -> Path:
        import orca.model

        module = Path(orca.model.__file__).parent.parent / "examples" / "hello" / "hello.wat"
        directory = trio.Path(self.node.directory / "hello")
        await directory.mkdir()
        await (directory / "service.toml").write_text(_TOML.format(module=module, host=HOST))
        return Path(directory)

    async def _ask_in_tls(self, ca: Path) -> None:
        self.say("Asking it in HTTPS, and believing that CA alone", "bold")
        place = f"{HOST}:{self.node.https_port}"
        self.say(f"  curl --cacert {ca} --resolve {place}:127.0.0.1 https://{place}/hello")
        began = time.monotonic()
        answer = await _until_answered(self.node, ca)
        self.say(f"    {answer['body'].splitlines()[0]}", "cyan")
        self.say(
            f"  {answer['version']}, {answer['cipher']}; the certificate is for {', '.join(answer['names'])}", "green"
        )
        self.say(f"  until {answer['until']}, and there {time.monotonic() - began:.1f} s after the deploy", "green")
        self.result["tls"] = answer

    async def _see_what_is_refused(self, ca: Path) -> None:
        """Raises NotAvailableError when anything is served that should not be."""
        location = await trio.to_thread.run_sync(_location_in_clear, self.node.http_port)
        self.say("Asking it in the clear", "bold")
        self.say(f"  sent to {location or '(nowhere)'}", "green" if location else "red")
        refusal = await trio.to_thread.run_sync(_refusal, self.node, ca, UNKNOWN)
        self.say(f"Asking for {UNKNOWN}, which nobody serves", "bold")
        self.say(f"  refused: {refusal}" if refusal else "  answered", "green" if refusal else "red")
        self.result |= {"redirected_to": location, "refused": refusal}
        if not (location and refusal):
            raise NotAvailableError("the ingress served what it should have refused, or sent elsewhere")


async def _until_answered(node: DemoNode, ca: Path) -> dict[str, Any]:
    """Ask until the certificate is there. Raises NotAvailableError."""
    why = ""
    with trio.move_on_after(HEAL_S_MAX):
        while True:
            try:
                return await trio.to_thread.run_sync(_ask, node, ca, HOST, abandon_on_cancel=True)
            except NodeUnreachableError as error:
                why = error.message
            await trio.sleep(0.05)
    raise NotAvailableError(f"https://{HOST} is not answered after {HEAL_S_MAX:g} s: {why}")


def _ask(node: DemoNode, ca: Path, host: str) -> dict[str, Any]:
    """What comes of a GET in TLS. Blocks. Raises NodeUnreachableError."""
    context = ssl.create_default_context(cafile=str(ca))
    try:
        with (
            socket.create_connection(("127.0.0.1", node.https_port), timeout=_REQUEST_S_MAX) as bare,
            context.wrap_socket(bare, server_hostname=host) as tls,
        ):
            tls.sendall(f"GET /hello HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = http.client.HTTPResponse(tls)
            answer.begin()
            shown: dict[str, Any] = dict(tls.getpeercert() or {})
            said = {"version": tls.version(), "cipher": (tls.cipher() or ("none",))[0]}
            names = [value for _, value in shown.get("subjectAltName", ())]
            body = answer.read(65536).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise NodeUnreachableError(f"the proxy does not answer in TLS: {error}") from error
    if answer.status != 200:
        raise NodeUnreachableError(f"the proxy answered {answer.status} {answer.reason}")
    return {**said, "names": names, "until": shown.get("notAfter", ""), "body": body}


def _refusal(node: DemoNode, ca: Path, host: str) -> str:
    """How TLS for `host` is refused; empty when it is not. Blocks."""
    try:
        _ask(node, ca, host)
    except NodeUnreachableError as error:
        return str(getattr(error.__cause__, "reason", "") or error.message)
    return ""


def _location_in_clear(port: int) -> str:
    """Where a request in the clear is sent; empty when it is not. Blocks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_REQUEST_S_MAX)
    try:
        connection.request("GET", "/hello", headers={"Host": HOST})
        answer = connection.getresponse()
        return answer.getheader("location", "") if answer.status == 308 else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
