"""One voter of the group that is measured: `simulations.bench.consensus` starts three.

What a node runs for the group and nothing else: `ReplicaDriver`, its log with every
write synced, the mesh. The door takes changes from another process, as gRPC does for etcd: each
frame is a value to put; all that came at once is proposed together, and answered one by one
when it is committed, applied and visible.

Orders come as lines on standard input, answers leave as lines of JSON.
"""

import gc
import logging
import random
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import trio

from consensus.driver import ReplicaDriver
from consensus.replica import AppliedCommand, Replica
from consensus.scheduler.beliefs import Beliefs
from consensus.state.cluster import Outcome
from consensus.state.commands import AdmitNode, PutDataKey, PutSecrets, SealedEntry
from node.group.transport import RaftTransport
from node.mesh.driver import Mesh, MeshAddress
from node.mesh.frames import FrameStream
from node.mesh.purpose import Purpose
from node.store.directory import DataDirectory
from node.store.environment import Environment
from node.store.log_store import FileLogStore
from orca.errors import NodeUnreachableError, OrcaError
from orca.model.ids import LogIndex, NodeId, RequestId, SecretId
from orca.model.units import Instant, WallMs
from simulations.bench.authority import AUTHORITY, CLUSTER, Authority

NAMES: Final = 1_000
"""So many different secrets are put, again and again."""
MAP_BYTES: Final = 2 * 2**30


class SystemClock:
    """The computer's."""

    def now(self) -> Instant:
        """Monotonic seconds."""
        return Instant(time.monotonic())

    def wall(self) -> WallMs:
        """Milliseconds since 1970."""
        return WallMs(time.time_ns() // 1_000_000)


class RandomIds:
    """Ids nobody had before."""

    def fresh(self) -> str:
        """Twelve characters."""
        return secrets.token_hex(6)


class Quiet:
    """Nobody listens to this replica."""

    def applied(self, commands: list[AppliedCommand]) -> None:
        """Nothing to do."""

    def noted(self, message: str) -> None:
        """Tell who watches the bench."""
        print(message, file=sys.stderr)

    def store_refused(self, reason: str) -> None:
        """A bench whose disk is full is void."""
        raise SystemExit(reason)

    def restored(self) -> None:
        """Nothing to do."""

    def group_changed(self) -> None:
        """Nothing to do."""

    def outranked(self, epoch: int) -> None:
        """Cannot be: nobody starts this group anew."""
        raise SystemExit(f"outranked by epoch {epoch}")


class Member:
    """A voter and its door."""

    def __init__(
        self, name: str, folder: Path, ports: dict[str, int], kept: int, beliefs: Callable[[], Beliefs] = Beliefs
    ) -> None:
        self.node = NodeId(name)
        self._ports = ports
        self._clock = SystemClock()
        self._directory = DataDirectory.open(folder)
        self._environment = Environment.open(self._directory, map_bytes_max=MAP_BYTES)
        store = self._store = FileLogStore.open(self._environment)
        voters = frozenset(map(NodeId, ports))
        rng = random.Random(secrets.randbits(64))
        credentials = Authority(folder.parent / AUTHORITY, CLUSTER).credentials(self.node)
        self._mesh = Mesh(self.node, rng, address_of=self._address_of, credentials=credentials)
        transport = RaftTransport(self._mesh)
        replica = Replica(self.node, voters, store.load(), rng, RandomIds(), log_entries_kept=kept)
        self.driver = ReplicaDriver(
            replica,
            self._clock,
            write=store.save,
            load=store.load,
            beliefs=beliefs,
            listener=Quiet(),
            transport=transport,
        )
        transport.receive = self.driver.receive
        self._transport = transport
        self._next = 0
        self._name = secrets.token_hex(4)

    def _address_of(self, node: NodeId) -> MeshAddress | None:
        port = self._ports.get(node)
        return None if port is None else MeshAddress("127.0.0.1", port)

    async def run(self, door: int) -> None:
        """Serve until standard input ends."""
        async with trio.open_nursery() as nursery:
            handlers = {Purpose.RAFT: self._transport.serve}
            run = partial(self._mesh.run, stream_handlers=handlers, unreachable=self.driver.unreachable)
            await nursery.start(run, {}, "127.0.0.1", self._ports[self.node])
            nursery.start_soon(self.driver.run)
            await nursery.start(partial(trio.serve_tcp, self._serve, door, host="127.0.0.1"))
            gc.collect()
            gc.freeze()
            print("{}", flush=True)
            await self._obey()
            nursery.cancel_scope.cancel()
        self._store.close()
        self._environment.close()

    async def _obey(self) -> None:
        async for line in trio.wrap_file(sys.stdin):
            print(msgspec.json.encode(await self._order(line.split())).decode(), flush=True)

    async def _order(self, words: list[str]) -> dict[str, Any]:
        match words:
            case ["state"]:
                raft = self.driver.raft
                return {"leads": raft.is_leader, "term": raft.term, "applied": self.driver.applied_index}
            case ["prepare"]:
                await self._prepare()
                return {}
            case ["fill", count, size]:
                await self._fill(int(count), int(size))
                return {"applied": self.driver.applied_index}
            case ["wait", index]:
                started = time.monotonic()
                await self.driver.wait_applied(LogIndex(int(index)))
                return {"waited_s": time.monotonic() - started}
            case _:
                return {"error": f"unknown order {words}"}

    def _fresh(self) -> RequestId:
        self._next += 1
        return RequestId(f"{self._name}{self._next:x}")

    async def _prepare(self) -> None:
        """Let there be a key, so that secrets can be put."""
        now = self._clock.wall()
        await self.driver.propose(AdmitNode(node=self.node, name=self.node, at_ms=now))
        key = PutDataKey(version=1, wrapped={self.node: bytes(32)}, request_id=self._fresh(), actor="bench", at_ms=now)
        outcome = await self.driver.propose(key)
        assert not outcome.error, outcome.message

    def _command(self, value: bytes) -> PutSecrets:
        request = self._fresh()
        secret = SecretId(f"bench/key{self._next % NAMES}")
        entry = SealedEntry(secret=secret, key_version=1, ciphertext=value)
        return PutSecrets(entries=(entry,), request_id=request, actor="bench", at_ms=self._clock.wall())

    async def _fill(self, count: int, size: int) -> None:
        value = bytes(size)
        while count > 0:
            ends = await self.driver.propose_all([self._command(value) for _ in range(min(count, 512))])
            _check(ends)
            count -= len(ends)

    async def _serve(self, stream: trio.SocketStream) -> None:
        frames = FrameStream(stream)
        sending = trio.Lock()

        async def put(values: Sequence[bytes]) -> None:
            ends = await self.driver.propose_all([self._command(value) for value in values])
            answers = [b"" if isinstance(end, Outcome) and not end.error else b"failed" for end in ends]
            async with sending:
                await frames.send(answers)

        try:
            async with trio.open_nursery() as nursery:
                while values := await frames.receive_some():
                    nursery.start_soon(put, values)
        except* NodeUnreachableError:
            pass  # the load has ended


def _check(ends: Sequence[Outcome | OrcaError]) -> None:
    for end in ends:
        if isinstance(end, OrcaError):
            raise end
        assert not end.error, end.message


def serve(make: Callable[..., Member]) -> None:
    """Be the member that `make` makes of the command line."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    name, folder, door, kept, *peers = sys.argv[1:]
    ports = {peer: int(port) for peer, _, port in (one.partition("=") for one in peers)}
    member = make(name, Path(folder), ports, int(kept))
    trio.run(member.run, int(door))


def main() -> None:
    """Be a member."""
    serve(Member)


if __name__ == "__main__":
    main()
