"""Several nodes in processes of their own, and what befalls them: kills, pauses, power cuts.

Nodes have fixed ports: their peers find them where they were when they come back. None runs Docker.
"""

import contextlib
import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from orca.model.ids import ServiceName
from orca.model.spec import ContainerImage, ServiceSpec
from orca.model.view import DeployRequest
from tests.integration.node import ROOT, Node, Reply, fetch, until
from tests.ports import free_port

SETTLE_S = 60.0
"""How long a group may take to be as wanted, on a computer with two busy cores."""
ELECTION_TIMEOUT_S = 1.5
"""The longest that a follower of default timing waits before it campaigns."""
CHANGED = (200, 201, 202)
"""Statuses of a change that was made."""


@dataclass
class Peer(Node):
    """A node of a cluster. `host` is where its peers see it; with a `token` it joins `peers` when it starts."""

    name: str = "n1"
    host: str = "127.0.0.1"
    peers: tuple[str, ...] = ()
    token: str = ""
    gossip: int = field(default_factory=free_port)
    mesh: int = field(default_factory=free_port)
    id: str = ""
    is_paused: bool = False

    def up_command(self) -> list[str]:
        command = super().up_command()
        for option, value in (("--gossip", f"{self.host}:{self.gossip}"), ("--mesh", str(self.mesh))):
            command[command.index(option) + 1] = value
        if self.token:
            at = command.index("up")
            command[at : at + 1] = ["join", *self.peers]
        return [*command, "--name", self.name, "--no-docker"]

    @property
    def address(self) -> str:
        """Where others join."""
        return f"{self.host}:{self.mesh}"

    @property
    def gossip_address(self) -> str:
        """Where a plain Serf agent joins."""
        return f"{self.host}:{self.gossip}"

    def make_token(self, uses: int = 1, **fields: Any) -> str:
        """A join token of this node's cluster, as soon as that can be had."""

        def ask() -> str | None:
            reply = self.post("/v1/tokens", {"uses": uses, **fields})
            return str(reply.json()["token"]) if reply.status == 201 else None

        return until(ask, f"{self.name} makes a token", SETTLE_S)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def is_living(self) -> bool:
        """It runs and is not paused."""
        return self.is_running and not self.is_paused

    def spawn(self) -> None:
        """Start it and wait for nothing."""
        assert not self.is_running, f"{self.name} runs already"
        self.is_paused = False
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.up_command(),
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.env, "ORCA_JOIN_TOKEN": self.token},
            )

    def wait_up(self, timeout_s: float = SETTLE_S) -> None:
        """Return once its API answers."""
        until(self.answers, f"the API of {self.name} answers", timeout_s)
        self.token = ""  # from now on it is a node of its cluster
        self.id = self.id or self.get("/v1/node").json()["facts"]["id"]

    def start(self) -> None:
        self.spawn()
        self.wait_up()

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)
        self.is_paused = True

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
        self.is_paused = False

    def quorum(self) -> dict[str, Any] | None:
        """`GET /v1/quorum`, None when it does not answer."""
        try:
            reply = self.get("/v1/quorum", timeout_s=2)
        except OSError:
            return None
        found: dict[str, Any] | None = reply.json() if reply.status == 200 else None
        return found

    def write(self, name: str, word: str, request_id: str = "", timeout_s: float = 10.0, padding: int = 0) -> Reply:
        """Put service `name`, of no copies, so that its newest revision says `word`; OSError when nobody answers."""
        image = ContainerImage(image=f"word:{word}")
        env = {"PADDING": "x" * padding} if padding else {}
        spec = ServiceSpec(name=ServiceName(name), source=image, replicas=0, env=env)
        body = msgspec.to_builtins(DeployRequest(specs=(spec,)))
        if request_id:
            body["request_id"] = request_id
        return self.post("/v1/deploys", body, timeout_s=timeout_s)

    def words(self, name: str) -> list[str]:
        """What this node knows to be written to `name`, oldest first."""
        reply = self.get(f"/v1/services/default/{name}/history", timeout_s=5)
        if reply.status == 404:
            return []
        assert reply.status == 200, reply.text
        return [one["workload"].removeprefix("word:") for one in reversed(reply.json()["revisions"])]


class Cluster:
    """The nodes of one cluster, in the order in which they were made."""

    def __init__(self, directory: Path, count: int, config: str = "", hosts: Sequence[str] = ()) -> None:
        self.nodes: list[Peer] = []
        for number in range(count):
            name = f"n{number + 1}"
            (directory / name).mkdir()
            host = hosts[number] if hosts else "127.0.0.1"
            self.nodes.append(
                Peer(directory / name, name=name, host=host, config=config, options=("--label", f"zone=z{number}"))
            )

    def start(self) -> None:
        """Found the cluster with the first node and let the others join it."""
        founder, *others = self.nodes
        founder.start()
        token = founder.make_token(len(others)) if others else ""
        for node in others:
            node.peers, node.token = (founder.address,), token
            node.spawn()
        for node in others:
            node.wait_up()

    def restart_dead(self) -> None:
        """Start every node that does not run."""
        dead = [node for node in self.nodes if not node.is_running]
        for node in dead:
            node.spawn()
        for node in dead:
            node.wait_up()

    def kill_all(self) -> None:
        """`kill -9` for all, with nothing in between."""
        for node in self.nodes:
            if node.is_running:
                os.kill(node.pid, signal.SIGKILL)
        for node in self.nodes:
            if node.process is not None:
                node.process.wait(10)

    @property
    def living(self) -> list[Peer]:
        return [node for node in self.nodes if node.is_living]

    def by_id(self, node: str) -> Peer:
        (found,) = (one for one in self.nodes if one.id == node)
        return found

    def leader(self) -> Peer | None:
        """The living node that says of itself that it leads, in the highest term."""
        found: tuple[int, Peer] | None = None
        for node in self.living:
            quorum = node.quorum()
            leads = quorum is not None and quorum["leader"] == quorum["observation"]["observer"]
            if quorum is not None and leads and (found is None or quorum["term"] > found[0]):
                found = (quorum["term"], node)
        return None if found is None else found[1]

    def wait_leader(self, other_than: Peer | None = None) -> Peer:
        def look() -> Peer | None:
            leader = self.leader()
            return None if leader is other_than else leader

        return until(look, "somebody else leads" if other_than else "somebody leads", SETTLE_S)

    def voters(self, node: Peer) -> list[str]:
        """Names of the voters as `node` knows them."""
        quorum = node.quorum()
        members = [] if quorum is None else quorum["members"]
        return sorted(one["name"] for one in members if one["role"] in {"leader", "voter"})

    def wait_settled(self, voters: int = 3, timeout_s: float = SETTLE_S) -> Peer:
        """The leader, once all living nodes agree on it, on the voters and on how far the log is committed."""
        seen: dict[str, Any] = {}

        def look() -> Peer | None:
            views = {node.name: (node.quorum(), self.voters(node)) for node in self.living}
            seen.update(views)
            if not views or any(quorum is None for quorum, _ in views.values()):
                return None
            facts = {
                (quorum["leader"], quorum["epoch"], quorum["applied_index"], *names)
                for quorum, names in views.values()
                if quorum is not None
            }
            seats = next(iter(views.values()))[1]
            living = {node.name for node in self.living}
            if len(facts) != 1 or len(seats) != voters or not set(seats) <= living:
                return None
            leader = next(iter(facts))[0]
            return self.by_id(leader) if leader is not None else None

        try:
            return until(look, f"{voters} living voters, and one leader for all", timeout_s)
        except AssertionError:
            show_views(seen)
            raise

    def write(
        self, name: str, word: str, request_id: str = "", through: Peer | None = None, padding: int = 0
    ) -> dict[str, Any]:
        """Write, through anybody who takes it, under one request id; asserts that it is done within `SETTLE_S`."""
        request_id = request_id or f"{name}-{word}-{time.monotonic_ns()}"
        order = [through] if through else self.living

        def attempt() -> dict[str, Any] | None:
            for node in order:
                with contextlib.suppress(OSError):
                    reply = node.write(name, word, request_id, timeout_s=3, padding=padding)
                    if reply.status in CHANGED:
                        done: dict[str, Any] = reply.json()
                        return done
            return None

        return until(attempt, f"{word} is written to {name}", SETTLE_S)

    def wait_words(self, name: str, words: Sequence[str], nodes: Sequence[Peer] = ()) -> None:
        """Return once every living node knows exactly these words of `name`."""
        for node in nodes or self.living:
            until(same_words(node, name, list(words)), f"{node.name} knows {words} of {name}", SETTLE_S)


def same_words(node: Peer, name: str, words: list[str]) -> Callable[[], bool]:
    """Whether `node` knows these words and no others."""
    return lambda: node.words(name) == words


def allow_more_time(seconds: float = 300.0) -> None:
    """A long test lives: the watchdog of pytest begins anew."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)


def show_views(seen: Mapping[str, Any]) -> None:
    """What each node last said of the group, for whoever reads a failure."""
    for name, (quorum, voters) in seen.items():
        keys = ("term", "epoch", "leader", "commit_index", "applied_index", "wanted", "last_change")
        print(name, voters, None if quorum is None else {key: quorum.get(key) for key in keys})  # noqa: T201


@contextlib.contextmanager
def running_cluster(
    count: int, config: str = "", hosts: Sequence[str] = (), directory: Path | None = None
) -> Iterator[Cluster]:
    """A cluster of `count` nodes that have started and know each other; killed at the end, however it comes."""
    with contextlib.ExitStack() as stack:
        if directory is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="orca-cluster-", ignore_cleanup_errors=True))
            directory = Path(made)
        cluster = Cluster(directory, count, config, hosts)
        stack.callback(cluster.kill_all)
        try:
            cluster.start()
            yield cluster
        except BaseException:
            for node in cluster.nodes:
                print(f"---- log of {node.name}\n{node.log[-3000:]}")  # noqa: T201
            raise


def healthy(node: Peer) -> bool:
    """Whether its API answers now."""
    try:
        return fetch(node.api, "GET", "/healthz", timeout_s=1).status == 200
    except OSError:
        return False
