"""`orca demo --nodes N`: a cluster on one computer, a service on all of it, a death, a return.

Every node is a process of its own, started as a person would: `orca up` for the first, `orca join` with a token for
the rest. While one of them is killed, requests go on through the proxies of the others, and each is counted.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from orca.cli.demo_node import DemoNode
from orca.errors import NotAvailableError, OrcaError

if TYPE_CHECKING:
    from orca.client import NodeClient
    from orca.model.ids import NodeId
    from orca.model.view import NodesReply, ServiceView, StatusReply

SERVICE: Final = "hello"
HOST: Final = "hello.example"
PATH: Final = "/hello"
SETTLE_S_MAX: Final = 60.0
ROUTED_AROUND_S: Final = 3.0
"""After so long nobody is sent to a dead node any more: what fails later is a fault."""
REQUEST_EVERY_S: Final = 0.05
AFTER_S: Final = 5.0
"""How long requests go on after the death, at least."""
_POLL_S: Final = 0.2
_TOML: Final = """\
[[service]]
name = "{name}"
runtime = "wasm"
module = "{module}"
replicas = {replicas}
port = 80
health = "/healthz"

[[service.routes]]
path = "{path}"
"""

Say = Callable[..., None]


@dataclass
class Load:
    """Requests through the proxies of `nodes` in turn, one every `REQUEST_EVERY_S`; what came of each."""

    nodes: list[DemoNode]
    failures: list[tuple[float, str]] = field(default_factory=list)
    answered: int = 0

    async def run(self) -> None:
        """Ask until cancelled; a slow answer delays no other request."""
        async with trio.open_nursery() as nursery:
            number = 0
            while True:
                nursery.start_soon(self._ask, self.nodes[number % len(self.nodes)])
                number += 1
                await trio.sleep(REQUEST_EVERY_S)

    async def _ask(self, node: DemoNode) -> None:
        began = time.monotonic()
        try:
            await node.request(HOST, PATH)
            self.answered += 1
        except OrcaError as error:
            self.failures.append((began, f"{node.name}: {error.message}"))


class DemoCluster:
    """The steps, each said before it is done. `say(text, style)` tells a line."""

    def __init__(self, count: int, http_port: int | None, say: Say) -> None:
        self.say = say
        ports = [http_port, *[None] * (count - 1)]
        self.nodes = [DemoNode(port, name=f"n{at + 1}", has_peers=True) for at, port in enumerate(ports)]
        self.result: dict[str, Any] = {}

    async def run(self) -> tuple["StatusReply", "NodesReply"]:
        """The whole story; what one of the nodes sees at its end. Raises OrcaError for what goes wrong."""
        from orca.client import open_client

        await self._form()
        async with open_client(self.nodes[0].address) as client:
            await self._deploy(client)
            leader = (await client.status()).leader
            names = {one.id: one.name for one in (await client.nodes()).members}
        for node in self.nodes:
            answer = await node.request_until_answered(HOST, PATH, SETTLE_S_MAX)
            self.say(
                f"  through {node.name}, http://127.0.0.1:{node.http_port}{PATH}: {answer.splitlines()[0]}", "cyan"
            )
        leading = names.get(leader) if leader else None
        victim = self._victim(leading)
        await self._lose_and_regain(victim, ", the leader" if victim.name == leading else "")
        async with open_client(self.nodes[0].address) as client:
            return await client.status(), await client.nodes()

    def keep(self) -> None:
        """Say how to reach the nodes and how to end them."""
        self.say("")
        self.say("The nodes go on:", "bold")
        for node in self.nodes:
            self.say(f"  export ORCA_NODE={node.address}; orca status   # {node.name}")
        processes = " ".join(str(node.process.pid) for node in self.nodes if node.process is not None)
        directories = " ".join(str(node.directory) for node in self.nodes)
        self.result["end"] = f"kill {processes}; rm -r {directories}"
        self.say(f"  to end it: {self.result['end']}")

    async def clean(self) -> None:
        """Stop every node and remove what it stored."""
        async with trio.open_nursery() as nursery:
            for node in self.nodes:
                nursery.start_soon(node.stop)
        for node in self.nodes:
            await trio.to_thread.run_sync(node.remove_files)

    async def _form(self) -> None:
        """Found the cluster and let the others join."""
        from orca.client import open_client
        from orca.model.trust_view import CreateTokenRequest

        founder, *others = self.nodes
        self.say(f"Starting {founder.name}: orca up", "bold")
        await founder.start()
        async with open_client(founder.address) as client:
            tokens: list[str] = []

            async def has_token() -> bool:
                tokens.append((await client.create_token(CreateTokenRequest(uses=len(others)))).token)
                return True

            await _until(has_token, "the founder makes a token")
            self.say(f"  orca token create --uses {len(others)}")
            began = time.monotonic()
            self.say(
                f"Joining {', '.join(node.name for node in others)}: orca join 127.0.0.1:{founder.mesh_port}", "bold"
            )
            async with trio.open_nursery() as nursery:
                for node in others:
                    node.join(founder, tokens[0])
                    nursery.start_soon(node.start)
            await _until(self._all_list_all, "every node lists every other")
        self.result["joined_s"] = round(time.monotonic() - began, 3)
        self.say(f"  every node lists all {len(self.nodes)} after {self.result['joined_s']:.1f} s", "green")
        await self._until_seated(began)

    async def _until_seated(self, began: float) -> None:
        """Wait until the group has all its voters: until then the first node's death is the end of decisions."""
        from orca.client import open_client
        from orca.model.quorum_view import QuorumRole

        voting: list[str] = []

        async def are_seated() -> bool:
            async with open_client(self.nodes[0].address) as client:
                quorum = await client.quorum()
            seated = {QuorumRole.LEADER, QuorumRole.VOTER}
            voting[:] = sorted(one.name for one in quorum.members if one.role in seated)
            return len(voting) >= quorum.wanted

        await _until(are_seated, "as many nodes vote as there are seats")
        self.result["seated_s"] = round(time.monotonic() - began, 3)
        self.say(f"  {', '.join(voting)} decide together after {self.result['seated_s']:.1f} s", "green")

    async def _all_list_all(self) -> bool:
        from orca.client import open_client

        for node in self.nodes:
            async with open_client(node.address) as client:
                listed = await client.nodes()
            if sum(one.state.value == "alive" for one in listed.members) < len(self.nodes):
                return False
        return True

    async def _deploy(self, client: "NodeClient") -> None:
        """One copy a node; whoever is asked, all know of it."""
        import orca.model
        from orca.cli.files import FileOptions, load_files
        from orca.commands.deploy import deploy_services
        from orca.commands.progress import ignore

        count = len(self.nodes)
        self.say(f"Deploying a WebAssembly HTTP service, {count} copies", "bold")
        module = Path(orca.model.__file__).parent.parent / "examples" / SERVICE / "hello.wat"
        file = trio.Path(self.nodes[0].directory / "service.toml")
        await file.write_text(_TOML.format(name=SERVICE, module=module, replicas=count, path=PATH))
        began = time.monotonic()
        given = await trio.to_thread.run_sync(load_files, [str(file)], FileOptions())
        outcome = await deploy_services(client, given, ignore)
        error = outcome.wait.error() if outcome.wait is not None else None
        if error is not None:
            raise error
        copies = _running(await _service(client))
        names = {one.id: one.name for one in (await client.nodes()).members}
        where = ", ".join(sorted(f"{names.get(node, node)} {number}" for node, number in copies.items()))
        self.say(f"  healthy after {time.monotonic() - began:.1f} s, copies: {where}", "green")

    def _victim(self, leader: str | None) -> DemoNode:
        """The leader, where the others can elect another: the death that costs most."""
        has_quorum = len(self.nodes) > 2
        for node in self.nodes:
            if (node.name == leader) == has_quorum:
                return node
        return self.nodes[-1]

    async def _lose_and_regain(self, victim: DemoNode, who: str) -> None:
        """Kill a node under load, see its copies run elsewhere, start it again, see all in its place."""
        from orca.client import open_client

        survivors = [node for node in self.nodes if node is not victim]
        load = Load(survivors)
        rate = round(1 / REQUEST_EVERY_S)
        self.say(f"Killing {victim.name}{who}, while {rate} requests a second go through the others", "bold")
        async with open_client(survivors[0].address) as client:
            dead = await self._id_of(client, victim.name)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                await trio.sleep(1)
                killed = time.monotonic()
                await victim.kill()
                await _until(lambda: self._runs_without(client, dead), "the copies run on the nodes that are left")
                moved_s = time.monotonic() - killed
                await trio.sleep(max(0.0, AFTER_S - moved_s))
                nursery.cancel_scope.cancel()
            self._judge(load, killed, moved_s)
            self.say(f"Starting {victim.name} again: orca up", "bold")
            began = time.monotonic()
            await victim.start()
            await _until(self._all_list_all, "every node lists every other again")
            await _until(lambda: self._runs_without(client, None), f"{len(self.nodes)} copies run, no more and no less")
        self.result["rejoined_s"] = round(time.monotonic() - began, 3)
        self.say(f"  it is back as the same node after {self.result['rejoined_s']:.1f} s, nothing runs twice", "green")

    def _judge(self, load: Load, killed: float, moved_s: float) -> None:
        """Say what the death cost. Raises NotAvailableError when requests failed that should not have."""
        late = [(at - killed, why) for at, why in load.failures if at - killed > ROUTED_AROUND_S]
        last_s = max((at - killed for at, _ in load.failures), default=-math.inf)
        self.result |= {
            "moved_s": round(moved_s, 3),
            "requests": load.answered + len(load.failures),
            "failed": len(load.failures),
            "failed_late": len(late),
            "last_failed_s": round(last_s, 3) if load.failures else None,
        }
        cost = f"{len(load.failures)} failed, the last {last_s:.2f} s after the death" if load.failures else "0 failed"
        self.say(f"  {load.answered + len(load.failures)} requests, {cost}", "green" if not late else "red")
        self.say(f"  its copies ran elsewhere after {moved_s:.1f} s", "green")
        if late:
            at, why = late[0]
            raise NotAvailableError(f"{len(late)} requests failed later than {ROUTED_AROUND_S:g} s, {at:.1f} s: {why}")

    async def _id_of(self, client: "NodeClient", name: str) -> "NodeId":
        members = (await client.nodes()).members
        return next(one.id for one in members if one.name == name and one.id is not None)

    async def _runs_without(self, client: "NodeClient", dead: "NodeId | None") -> bool:
        """Whether exactly as many copies as were asked for are ready, none of them on `dead`."""
        copies = _running(await _service(client))
        return sum(copies.values()) == len(self.nodes) and dead not in copies


async def _service(client: "NodeClient") -> "ServiceView":
    (found,) = (await client.services()).services
    return found


def _running(service: "ServiceView") -> dict["NodeId", int]:
    """How many ready copies are on each node."""
    counts: dict[NodeId, int] = {}
    for copy in service.allocations:
        if copy.is_ready and copy.silent_ms is None:
            counts[copy.node] = counts.get(copy.node, 0) + 1
    return counts


async def _until(look: Callable[[], Any], what: str) -> None:
    """Look until it is so. Raises NotAvailableError after `SETTLE_S_MAX`."""
    why = ""
    with trio.move_on_after(SETTLE_S_MAX):
        while True:
            try:
                if await look():
                    return
            except OrcaError as error:
                why = f": {error.message}"
            await trio.sleep(_POLL_S)
    raise NotAvailableError(f"not within {SETTLE_S_MAX:g} s: {what}{why}")
